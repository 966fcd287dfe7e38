"""aiohttp, told to read its environment, which it does not do by itself."""

import asyncio
import json
import sys

import aiohttp


async def main():
    async with aiohttp.ClientSession(trust_env=True) as session, session.get(sys.argv[1]) as answer:
        return answer.status


print(json.dumps({"aiohttp": asyncio.run(main())}))
