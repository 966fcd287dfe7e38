"""Clients of every family, with no credential of their own."""

import json
import sys
import urllib.request

import httpx2 as httpx
import openai
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential

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
# Code that has a client id and a secret in its environment, as many samples have: the gate answers for Entra.
entra = ClientSecretCredential("00000000-0000-0000-0000-000000000001", "a3191a7e-0000-4000-8000-000000000000", "any")
said["entra"] = requests.get(
    url, headers={"Authorization": f"Bearer {entra.get_token('https://management.azure.com/.default').token}"}, timeout=30
).status_code
try:
    other = ClientSecretCredential("00000000-0000-0000-0000-000000000001", "11111111-0000-4000-8000-000000000000", "own")
    other.get_token("https://management.azure.com/.default")
except ClientAuthenticationError as error:
    said["own"] = error.message
print(json.dumps(said))
