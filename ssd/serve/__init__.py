"""A page in the browser and an API for programs: limits, worker, videos, and the application on FastAPI."""
