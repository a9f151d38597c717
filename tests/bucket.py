"""A real S3 server (moto) on this machine, which requires credentials."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from moto.server import ThreadedMotoServer

REGION = "us-east-1"
# Variables of the machine that no test may use.
_SURROUNDINGS = (
    "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE",
    "AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
)  # fmt: skip


@dataclass(frozen=True)
class S3:
    """A running S3 server.

    Attributes:
        endpoint: Its URL.
        key: The access key of its one user.
        secret: That user's secret.
        client: Boto3's, of that user.
    """

    endpoint: str
    key: str
    secret: str
    client: Any

    def upload(self, bucket: str, folder: str, *files: Path) -> None:
        """Put files into a folder of a bucket."""
        for file in files:
            self.client.upload_file(str(file), bucket, f"{folder}/{file.name}")

    def names(self, bucket: str) -> list[str]:
        """Return the names of all objects in a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    @property
    def credentials(self) -> dict[str, str]:
        """Return the credentials as an entry of Kedro's credentials.yml."""
        return {"key": self.key, "secret": self.secret, "endpoint_url": self.endpoint}


@contextmanager
def s3_server() -> Iterator[S3]:
    """Start a server with one user, who has all permissions; all others have none."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        requests.post(f"{endpoint}/moto-api/reset", timeout=10).raise_for_status()
        key, secret = _user(endpoint)
        requests.post(f"{endpoint}/moto-api/reset-auth", data=b"0", timeout=10).raise_for_status()
        yield S3(endpoint, key, secret, _client("s3", endpoint, key, secret))
    finally:
        requests.post(f"{endpoint}/moto-api/reset-auth", data=b"inf", timeout=10)
        server.stop()


def _client(service: str, endpoint: str, key: str, secret: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name=REGION,
        config=Config(retries={"max_attempts": 1}),
    )


def _user(endpoint: str) -> tuple[str, str]:
    iam = _client("iam", endpoint, "anyone", "anything")
    iam.create_user(UserName="trainer")
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": everything})
    iam.put_user_policy(UserName="trainer", PolicyName="everything", PolicyDocument=policy)
    made = iam.create_access_key(UserName="trainer")["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the credentials of the machine, and do not ask a cloud for any."""
    for name in _SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")


def with_credentials(monkeypatch: pytest.MonkeyPatch, server: S3) -> None:
    """Set the user's credentials in the environment, without the server's address."""
    without_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
