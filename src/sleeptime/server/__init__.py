"""The server: the OpenAI-compatible proxy, REST, MCP and the dashboard, over one engine for each tenant."""
