"""A web server on asyncio's streams: connections are kept, and pages say who asks."""
import asyncio
import sys


async def serve(reader, writer):
    page = writer.get_extra_info("peername")[0].encode() + b"\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page)
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head + page)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main():
    server = await asyncio.start_server(serve, ["0.0.0.0", "::"], int(sys.argv[1]))
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main())
