"""What a person schedules: one file a flow, each a few named steps. Deployed by prefect.yaml."""
