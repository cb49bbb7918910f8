"""What to say of a provider that has failed, whatever CLI has asked it."""

KEY = "The provider refuses the key that this worker has ({}): the operator has to set another one."
BUSY = "The provider takes no more requests for now ({}). Try again later."
MODEL = "The provider does not know this model ({})."
DOWN = "The provider failed ({}). Try again later."
REFUSED = "The provider refuses the request ({})."
WORDS = {
    **dict.fromkeys((401, 403, "authentication_failed", "oauth_org_not_allowed", "unauthorized"), KEY),
    **dict.fromkeys((429, "rate_limit", "overloaded", "rateLimitExceeded", "serverOverloaded", 529), BUSY),
    **dict.fromkeys((402, "billing_error", "usageLimitExceeded"), "The provider's account has no credit left ({})."),
    **dict.fromkeys((404, "model_not_found", "modelNotFound"), MODEL),
    **dict.fromkeys((400, 413, "invalid_request", "badRequest"), REFUSED),
    "max_output_tokens": "The answer is longer than the model may write ({}).",
}


def provider_failure(kind: object, words: str) -> str:
    """The sentence for a status of HTTP, or a CLI's own name for what went wrong."""
    if "max_output_tokens" in words:
        kind = "max_output_tokens"
    known = WORDS.get(kind) if isinstance(kind, int | str) else None
    return (known or DOWN).format(words)
