"""Models: list, look at, load, unload."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from kronos.serve.schemas import LoadRequest, ModelDetail, ModelItem, ModelList
from kronos.serve.services import Services, services

router = APIRouter(prefix="/api/models", tags=["models"])
Here = Annotated[Services, Depends(services)]


@router.get("", response_model=ModelList)
async def list_models(here: Here) -> dict[str, Any]:
    """The models at hand."""
    return {
        "items": [model.item() for model in await here.models.list()],
        "devices": here.models.devices,
        "memory_budget_bytes": here.models.budget,
        "memory_used_bytes": here.models.used,
    }


@router.get("/{id}", response_model=ModelDetail)
async def get_model(id: str, here: Here) -> dict[str, Any]:
    """One model and its card."""
    model = await here.models.get(id)
    return model.item() | {"card": await here.models.card(model)}


@router.post("/{id}/load", status_code=202, response_model=ModelItem)
async def load_model(id: str, here: Here, asked: LoadRequest | None = None) -> dict[str, Any]:
    """Begin to load a model, or to move it to another device; its state says how it goes."""
    model = await here.models.get(id)
    here.models.begin_load(model, asked.device if asked else None)
    return model.item()


@router.post("/{id}/unload", response_model=ModelItem)
async def unload_model(id: str, here: Here) -> dict[str, Any]:
    """Free a model's memory. A forecast that uses it ends first."""
    model = await here.models.get(id)
    await here.models.unload(model)
    return model.item()
