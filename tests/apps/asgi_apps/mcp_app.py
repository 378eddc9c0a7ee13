"""A server of the Model Context Protocol over streamable HTTP."""

from mcp.server import MCPServer

server = MCPServer("tools")


@server.tool()
async def add(first: int, second: int) -> int:
    return first + second


app = server.streamable_http_app()
