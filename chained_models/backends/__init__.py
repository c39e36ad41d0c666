"""One module per backend, imported by name: ``from chained_models.backends.rest import RestBackend``."""
