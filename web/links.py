"""OpenAPI's links: what can be done next with the thing that an answer shows, for those who explore on their own."""

from typing import Any

NAMED_BY = {
    "Thread": {"thread_id": "id"},
    "Run": {"run_id": "id", "thread_id": "thread_id"},
    "Artifact": {"artifact_id": "id", "thread_id": "thread_id"},
    "Approval": {"approval_id": "id"},
}
"""The parameters of paths that a thing of ours has the value for, and in which member."""


def link(paths: dict[str, dict[str, Any]]) -> None:
    """Have each answer of a POST name the operations that the thing in it leads to."""
    operations = [operation for methods in paths.values() for operation in methods.values()]
    leads_to = [(operation["operationId"], _in_path(operation)) for operation in operations]
    for operation in (methods["post"] for methods in paths.values() if "post" in methods):
        for status in ("200", "201", "202"):
            answer = operation["responses"].get(status, {})
            known = NAMED_BY.get(_shown(answer), {})
            links = {
                name: {
                    "operationId": name,
                    "parameters": {parameter: f"$response.body#/{known[parameter]}" for parameter in wanted},
                }
                for name, wanted in leads_to
                if wanted and wanted <= set(known)
            }
            if links:
                answer["links"] = links


def _in_path(operation: dict[str, Any]) -> set[str]:
    return {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}


def _shown(answer: dict[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return str(schema.get("$ref", "")).rpartition("/")[2]
