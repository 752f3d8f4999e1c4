"""OpenStack Swift with its s3api middleware, on loopback: an S3 server that checks what it gets."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.ports import free_port

__all__ = ["SWIFT", "Swift", "need_swift"]

SWIFT = os.environ.get("TSPIN_SWIFT")
"""The folder of Swift's commands; `make test-s3` sets it."""
KEY, SECRET, REGION = "test:tester", "testing", "us-east-1"
_SECONDS = 600.0
"""In which everything has started, however busy the machine is."""
_STORES = ("account", "container", "object")

_SWIFT_CONF = """[swift-hash]
swift_hash_path_suffix = suffix
swift_hash_path_prefix = prefix

[storage-policy:0]
name = default
default = yes
"""
_STORE_CONF = """[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
fallocate_reserve = 0
user = {user}

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
conn_timeout = 60
node_timeout = 60
# An upload is answered after a second, whether its container lists it by then or not.
container_update_timeout = 60
"""
"""Swift gives up its own servers after half a second, or three, as they take on a busy machine."""
_PIPELINE = (
    "catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth copy bulk slo dlo "
    "versioned_writes symlink proxy-server"
)
_PROXY_CONF = """[DEFAULT]
swift_dir = {folder}
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}

[pipeline:main]
pipeline = {pipeline}

[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
conn_timeout = 60
node_timeout = 60
# Else ten errors, as of a store that is still starting, shut it out for a minute.
error_suppression_limit = 1000000

[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin .reseller_admin

[filter:s3api]
use = egg:swift#s3api
location = us-east-1
allow_multipart_uploads = yes
min_segment_size = 5242880
check_bucket_owner = no
"""
_PLAIN = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "copy", "bulk", "slo")
_PLAIN += ("dlo", "versioned_writes", "symlink")


def need_swift() -> None:
    """Skip without Swift, or fail where TSPIN_REQUIRE_S3 says that it must be there."""
    if not SWIFT:
        message = "TSPIN_SWIFT names no Swift: make test-s3"
        if os.environ.get("TSPIN_REQUIRE_S3"):
            pytest.fail(message)
        pytest.skip(message)


class Swift:
    """One server with its folders below `folder`; started and stopped by whoever makes it."""

    def __init__(self, folder: Path) -> None:
        """Write its configuration; nothing runs yet."""
        assert SWIFT is not None
        self.folder = folder
        (folder / "devices/d1").mkdir(parents=True)
        self._ports = {name: free_port() for name in (*_STORES, "proxy", "memcached")}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "swift.conf").write_text(_SWIFT_CONF)
        for kind in _STORES:
            self._write(kind, _STORE_CONF)
            self._make_ring(kind)
        self._write("proxy", _PROXY_CONF)
        with (folder / "proxy.conf").open("a") as file:
            file.writelines(f"\n[filter:{name}]\nuse = egg:swift#{name}\n" for name in _PLAIN)

    @property
    def url(self) -> str:
        """Of the S3 API."""
        return f"http://127.0.0.1:{self._ports['proxy']}"

    def start(self) -> None:
        """Start every process and wait until the API answers."""
        memcached = shutil.which("memcached")
        assert memcached is not None, "Debian package memcached is needed"
        port = str(self._ports["memcached"])
        command = [memcached, "-l", "127.0.0.1", "-p", port, "-u", getpass.getuser()]
        self._spawn("memcached", command)
        for kind in _STORES:
            self._spawn(kind, [f"{SWIFT}/swift-{kind}-server", str(self.folder / f"{kind}.conf")])
        self.start_proxy()

    def start_proxy(self) -> None:
        """Start what speaks S3; it can be killed and started again on its own."""
        self._spawn("proxy", [f"{SWIFT}/swift-proxy-server", str(self.folder / "proxy.conf")])
        end = time.monotonic() + _SECONDS
        while not self._answers():
            if time.monotonic() > end or self._processes["proxy"].poll() is not None:
                raise AssertionError((self.folder / "proxy.log").read_text())
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """SIGKILL, as when a machine goes down."""
        self._processes[name].kill()
        self._processes[name].wait()

    def stop(self) -> None:
        """End every process."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        settings = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60)
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
            config=settings,
        )
        try:
            client.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True

    def _spawn(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def _write(self, kind: str, text: str) -> None:
        given = {
            "folder": self.folder,
            "kind": kind,
            "port": self._ports[kind],
            "memcached": self._ports["memcached"],
            "user": getpass.getuser(),
            "pipeline": _PIPELINE,
        }
        (self.folder / f"{kind}.conf").write_text(text.format(**given))

    def _make_ring(self, kind: str) -> None:
        builder = str(self.folder / f"{kind}.builder")
        device = f"r1z1-127.0.0.1:{self._ports[kind]}/d1"
        for arguments in (["create", "4", "1", "1"], ["add", device, "1"], ["rebalance"]):
            subprocess.run(
                [f"{SWIFT}/swift-ring-builder", builder, *arguments],
                check=True,
                capture_output=True,
            )
