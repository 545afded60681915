"""Fetches a page over both address families in the ways that Python programs do."""
import asyncio
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import requests
import urllib3

V4, V6, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])


def show(text):
    print(text.strip())


async def raw(host):
    reader, writer = await asyncio.open_connection(host, PORT)
    writer.write(b"GET /who HTTP/1.0\r\n\r\n")
    page = await reader.read()
    writer.close()
    await writer.wait_closed()
    show(page.decode().split("\r\n\r\n")[1])


async def streams(host, url):
    await asyncio.gather(*[raw(host) for _ in range(20)])

    async def get(session):
        async with session.get(url) as response:
            show(await response.text())

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*[get(session) for _ in range(20)])


for host in [V4, V6]:
    url = f"http://[{host}]:{PORT}/who" if ":" in host else f"http://{host}:{PORT}/who"
    for _ in range(5):
        show(urllib.request.urlopen(url, timeout=60).read().decode())
        show(requests.get(url, timeout=60).text)
    with requests.Session() as session:
        for _ in range(5):
            show(session.get(url, timeout=60).text)
    with urllib3.PoolManager(maxsize=4, timeout=60) as pool, ThreadPoolExecutor(4) as threads:
        for response in threads.map(lambda _: pool.request("GET", url), range(20)):
            show(response.data.decode())
    asyncio.run(streams(host, url))
