"""How a pod reaches others, task or server: whom it trusts, what it goes through."""

from __future__ import annotations

__all__ = ["CERTIFICATES", "PROXY", "TRUST"]

CERTIFICATES = "/etc/tspin/ca"
"""Where a pod has the `ca.crt` of the profile's bundle."""
TRUST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
"""What httpx (the hub), requests and boto3 read."""
PROXY = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
"""Keys of the profile's ConfigMap, and variables of a pod."""
