"""What the OpenAPI document is made of beside the endpoints' own descriptions (openapi_docs.py, openapi_schema.py)."""
