"""Django's Postgres backend (with psycopg2), which looks at a kept connection before a request uses it."""
