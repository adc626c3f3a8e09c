"""The service: admission, routing to an arm, the engines, prediction events, and the faces people call.

It never imports training, data or the model registry, and touches no workspace: bundles come by
digest from the bundle store, or packed beside the code.
"""
