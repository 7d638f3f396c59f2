"""The HTTP server's front: connections, deadlines and sizes, checked before the application runs."""
