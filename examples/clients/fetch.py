#!/usr/bin/env python3
"""Fetches a token from the broker in this pod, with the standard library only.

    fetch.py USER TOKEN APP_NAME PURPOSE
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

# Where the pod's projected token (audience bursar) is mounted unless told.
TOKEN_FILE = "/var/run/secrets/bursar/token"


def fetch(user_id: str, token: str, app_name: str, purpose: str) -> str:
    """The token's value; raises PermissionError or OSError with the broker's reason."""
    # Read anew for each request: the kubelet replaces it before it expires.
    jwt = Path(os.environ.get("BURSAR_TOKEN_FILE", TOKEN_FILE)).read_text(encoding="ascii").strip()
    request = urllib.request.Request(
        os.environ.get("BURSAR_URL", "http://127.0.0.1:9440") + "/v1/tokens/access",
        data=json.dumps(
            {"user_id": user_id, "token": token, "app_name": app_name, "purpose": purpose}
        ).encode(),
        headers={"Authorization": f"Bearer {jwt}", "Content-Type": "application/json"},
    )
    # The broker is on localhost: a proxy of the environment has no part in this.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return json.load(response)["token"]
    except urllib.error.HTTPError as error:
        problem = json.load(error)
        kind = PermissionError if error.code in (401, 403) else OSError
        raise kind(f"{problem['code']}: {problem['detail']}") from None


if __name__ == "__main__":
    if len(sys.argv) != 5:
        print(f"usage: {sys.argv[0]} USER TOKEN APP_NAME PURPOSE", file=sys.stderr)
        sys.exit(2)
    try:
        print(fetch(*sys.argv[1:]))
    except OSError as error:
        sys.exit(str(error))
