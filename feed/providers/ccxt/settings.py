"""What a ccxt feed has to be told: which exchange, and how to read it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from feed.providers.ccxt.exchanges import exchanges


class CcxtFeed(BaseModel):
    """Public trades of an exchange; which symbols is said on the Instruments page.

    exchange: its id in ccxt. poll_s: how often trades are asked for where they do not come over WebSocket. sandbox: the
    exchange's place for trials, with prices of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ccxt"] = "ccxt"
    exchange: str
    poll_s: float = Field(default=2.0, ge=0.1, le=3_600)
    sandbox: bool = False

    @field_validator("exchange")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in exchanges():
            near = [one for one in exchanges() if one[:3] == value[:3].lower()]
            known = f"perhaps {', '.join(near)}" if near else "docs/feeds-ccxt.md says which there are"
            raise ValueError(f"ccxt knows no exchange of this id; {known}")
        return value
