"""Clients of every family, with no credential of their own."""

import json
import sys
import urllib.request

import httpx2 as httpx
import openai
import requests

url, scoring = sys.argv[1:]
said = {"requests": requests.get(url, timeout=30).status_code, "httpx": httpx.get(url, timeout=30).status_code}
with urllib.request.urlopen(url, timeout=30) as answer:
    said["urllib"] = answer.status
try:
    requests.get("https://example.com/", timeout=30)
except requests.exceptions.ProxyError as error:
    said["elsewhere"] = str(error)
chat = openai.OpenAI(base_url=f"{scoring}/v1", api_key="none", max_retries=0).chat.completions.create(
    model="churn-chat", stream=True, messages=[{"role": "user", "content": "hello there"}]
)
said["openai"] = "".join(event.choices[0].delta.content or "" for event in chat).strip()
print(json.dumps(said))
