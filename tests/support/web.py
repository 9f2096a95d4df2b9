"""Galileo's web server, asked over HTTP as its users' programs do."""

from __future__ import annotations

from typing import Any

import requests

_TIMEOUT_S = 30.0


class Web:
    """The API on a loopback port, with a user's token."""

    def __init__(self, port: int, token: str) -> None:
        self.url = f"http://127.0.0.1:{port}/api"
        self._headers = {"Authorization": f"Token {token}"}

    @property
    def authorization(self) -> str:
        """The value of the header that names the user."""
        return self._headers["Authorization"]

    def answers(self) -> bool:
        try:
            return self.request("GET", "").ok
        except requests.RequestException:
            return False

    def begin(self, plan: dict[str, Any]) -> str:
        """Submits a plan; returns the experiment's id."""
        response = self.request("POST", "/experiments", json=plan)
        if response.status_code != 201:
            raise AssertionError(f"the plan was refused: {response.status_code} {response.text}")
        return str(response.json())

    def cancel(self, experiment_id: str) -> int:
        """Stops the load of an experiment; returns the HTTP status."""
        return self.request("POST", f"/experiments/{experiment_id}/cancel").status_code

    def delete(self, experiment_id: str) -> int:
        """Removes an experiment, an active one when it has ended; returns the HTTP status."""
        return self.request("DELETE", f"/experiments/{experiment_id}").status_code

    def experiment(self, experiment_id: str) -> dict[str, Any]:
        """All that the API tells of an experiment."""
        response = self.request("GET", f"/experiments/{experiment_id}")
        response.raise_for_status()
        return dict(response.json())

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, f"{self.url}{path}", headers=self._headers, timeout=_TIMEOUT_S, **options)
