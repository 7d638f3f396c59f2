"""Jobs as tools of the Model Context Protocol (MCP), over the HTTP API of a service."""
