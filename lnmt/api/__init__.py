"""The Python API: thin classes over the engine. Their public names are those of `lnmt`, see lnmt/public.py."""
