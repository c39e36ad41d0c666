"""An SQLModel in a FastAPI app.

    python -m pytest examples/sqlmodel_fastapi

Needs fastapi, sqlmodel, httpx and ``pip install 'chained-models[sqlalchemy]'``.
"""
