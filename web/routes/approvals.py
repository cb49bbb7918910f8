"""Approvals: what agents ask leave for, and what is decided."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from longwick import approvals
from longwick.kinds import ApprovalStatus
from web.bodies import Verdict
from web.dependencies import AfterApproval, ApprovalId, Limit, TheCaller, TheDispatcher, TheRecord, split_at_commas
from web.openapi import responses
from web.schemas import Approval, ApprovalList

router = APIRouter(prefix="/approvals", tags=["approvals"])

Statuses = Annotated[
    list[ApprovalStatus],
    BeforeValidator(split_at_commas),
    Query(default_factory=list, description="Only of these statuses; repeated, or with commas between them"),
]


@router.get("", responses=responses(400, 422, 503))
def list_approvals(
    caller: TheCaller, record: TheRecord, status: Statuses, limit: Limit = 100, after: AfterApproval | None = None
) -> ApprovalList:
    """What agents have asked leave for, newest first."""
    page = record.read(lambda db: approvals.list_approvals(db, caller.owner, statuses=status, limit=limit, after=after))
    return ApprovalList.of(page, Approval.model_validate)


@router.post("/{approval_id}", responses=responses(400, 404, 409, 413, 415, 422, 503))
def decide(
    approval_id: ApprovalId, verdict: Verdict, caller: TheCaller, record: TheRecord, dispatcher: TheDispatcher
) -> Approval:
    """Allow or deny; the agent goes on, also where its run was parked to wait for this."""
    allowed = verdict.decision == "allow"
    decided = record.write(lambda db: approvals.decide(db, caller.owner, approval_id, allowed, verdict.message))
    dispatcher.wake()
    return Approval.model_validate(decided)
