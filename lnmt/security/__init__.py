"""Who may do what with the service: API keys, roles, and the address and certificate it listens with."""
