"""The emulated providers as separate processes, independent of the service."""

import os
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx2

import process_template
from authorities import trusted
from backing_services import free_port
from comfyworkflows import workflow_folder
from process_template import inherited
from service_process import PATIENCE

FAL_SECONDS: Final = 45  # until an attempt must have started
FAL_WAIT: Final = 15  # seconds more until its callback is overdue
TOKEN: Final = "r8_emulator_test_0123456789abcdefghij"
TOKENS: Final = f"{TOKEN},{TOKEN[:-4]}wxyz"  # of two accounts


class Host:
    """A running emulator, and its control API."""

    per_second: ClassVar[str] = "0.001"  # price of the run time, in US dollars
    accounts: ClassVar[int] = 1  # at one provider, each with its token
    finds_lost: ClassVar[bool] = True  # a start whose response was lost, without a callback
    models: ClassVar[
        tuple[str, ...]
    ] = ()  # that callers name, in either order; none: the default one

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.folder = folder
        self.port = free_port()
        options = ["--port", str(self.port), "--seed", str(seed)]
        options += ["--ledger", str(folder / "ledger.jsonl")]
        with Path(os.devnull).open("wb") as log:
            self._popen = process_template.start(
                "fleek.emulator", *options, folder=folder, env=inherited(), log=log
            )
        assert self._popen.stdout is not None
        assert b"emulator at" in self._popen.stdout.readline()
        self._http = httpx2.Client(
            base_url=self.url, verify=trusted(), timeout=PATIENCE, trust_env=False
        )
        self.plan(price_per_second_usd=float(self.per_second))

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    def settings(self) -> dict[str, str]:
        """Return the settings of a service that uses this emulator."""
        return {
            "PROVIDERS": "replicate",
            "REPLICATE_BASE_URL": f"{self.url}/v1",
            "REPLICATE_API_TOKEN": TOKEN,
            "REPLICATE_CREATES_PER_MINUTE": "100000",
            "REPLICATE_CALLS_PER_MINUTE": "1000000",
        }

    def plan(self, **changes: Any) -> None:
        """Change parts of its plan."""
        answer = self._http.patch("/_emu/plan", json=changes)
        assert answer.status_code == 200, answer.text

    def calm(self) -> None:
        """End all faults; running predictions continue."""
        self.plan(injecting=False)

    def finish(self) -> None:
        """End all faults and all running predictions."""
        assert self._http.post("/_emu/quiesce").status_code == 200

    def reset(self, seed: int) -> None:
        """Forget all predictions."""
        assert self._http.post("/_emu/reset", params={"seed": seed}).status_code == 200

    def ledger(self) -> dict[str, Any]:
        """Return the ledger."""
        found: dict[str, Any] = self._http.get("/_emu/ledger").json()
        return found

    def close(self) -> None:
        """Stop the process."""
        self._http.close()
        self._popen.kill()
        self._popen.wait(PATIENCE)
        assert self._popen.stdout is not None
        self._popen.stdout.close()


class OpenAIHost(Host):
    """An emulator whose videos are created by the API of OpenAI; it sends no callbacks."""

    def settings(self) -> dict[str, str]:
        """Return the settings of a service that uses this emulator."""
        return {
            "PROVIDERS": "openai",
            "OPENAI_BASE_URL": f"{self.url}/openai/v1",
            "OPENAI_API_KEY": TOKEN,
            "OPENAI_MODELS": "video:sora-2",
        }


class FalHost(Host):
    """An emulator of fal's queue: a request whose response was lost is found by its callback alone."""

    finds_lost = False

    def settings(self) -> dict[str, str]:
        """Return the settings of a service that uses this emulator."""
        return {
            "PROVIDERS": "fal",
            "FAL_QUEUE_URL": f"{self.url}/fal",
            "FAL_JWKS_URL": f"{self.url}/fal/.well-known/jwks.json",
            "FAL_REST_URL": f"{self.url}/fal",
            "FAL_CDN_URL": f"{self.url}/fal",
            "FAL_KEY": TOKEN,
            "ATTEMPT_TIMEOUT": str(FAL_SECONDS),
            "FAL_CALLBACK_WAIT": str(FAL_WAIT),
        }


class OpenAIAccountsHost(OpenAIHost):
    """Two accounts at OpenAI's API: the list of each has its own videos alone."""

    accounts = 2

    def __init__(self, folder: Path, *, seed: int) -> None:
        super().__init__(folder, seed=seed)
        self.plan(accounts=True)

    def settings(self) -> dict[str, str]:
        """Return the settings of a service that uses both accounts."""
        return {**super().settings(), "OPENAI_API_KEY": TOKENS}


class FalAccountsHost(FalHost):
    """Two accounts at fal."""

    accounts = 2

    def __init__(self, folder: Path, *, seed: int) -> None:
        super().__init__(folder, seed=seed)
        self.plan(accounts=True)

    def settings(self) -> dict[str, str]:
        """Return the settings of a service that uses both accounts."""
        return {**super().settings(), "FAL_KEY": TOKENS}


class ComfyUIHost(Host):
    """An emulated ComfyUI server, which sends no callbacks."""

    per_second = "0"  # its answers name times in milliseconds

    def settings(self) -> dict[str, str]:
        """Return the settings of a service that uses this emulator."""
        return {
            "PROVIDERS": "comfyui",
            "COMFYUI_URL": f"{self.url}/comfyui",
            "COMFYUI_WORKFLOWS": str(workflow_folder(self.folder)),
            "COMFYUI_MAX_CONCURRENCY": "100",
        }


class SeveralHost(OpenAIHost):
    """An emulator that is two providers for a service: they share its ledger."""

    models: ClassVar[tuple[str, ...]] = (
        "replicate:black-forest-labs/flux-schnell",
        "openai:sora-2",
    )

    def settings(self) -> dict[str, str]:
        """Return the settings of a service that uses both."""
        return {
            **Host.settings(self),
            **super().settings(),
            "PROVIDERS": "replicate,openai",
            "FAILOVER_AFTER_SECONDS": "0.3",
        }


class AccountsHost(Host):
    """An emulator of two accounts at Replicate: neither sees what the other has started."""

    accounts = 2

    def __init__(self, folder: Path, *, seed: int) -> None:
        super().__init__(folder, seed=seed)
        self.plan(accounts=True)

    def settings(self) -> dict[str, str]:
        """Return the settings of a service that uses both accounts."""
        return {**super().settings(), "REPLICATE_API_TOKEN": TOKENS}


HOSTS: Final = {
    "accounts": AccountsHost,
    "replicate": Host,
    "openai": OpenAIHost,
    "fal": FalHost,
    "comfyui": ComfyUIHost,
    "several": SeveralHost,
    "fal-accounts": FalAccountsHost,
    "openai-accounts": OpenAIAccountsHost,
}
