"""FSDP2 on two CPU processes: sharded training equals training alone, and its checkpoints load afresh."""

import copy
import os

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from glue_mva import LaMAdam, LaProp, MAdam
from tests.processes import PROCESSES


def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1))


def train(net, optimizer, n, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        inputs = torch.randn(4, 5, generator=generator)  # the same on both ranks, so averaging changes nothing
        optimizer.zero_grad()
        net(inputs).square().sum().backward()
        optimizer.step()


def worker(rank, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    check_sharded_training(init_device_mesh("cpu", (2,)), folder)
    dist.destroy_process_group()
    # The mesh keeps the group's threads. One that frees the tensors of its last collective while the interpreter shuts
    # down aborts the process ("terminate called without an active exception"), so leave without that shutdown. What
    # failed above has been raised, and reaches `mp.spawn`.
    os._exit(0)


def check_sharded_training(mesh, folder):
    for cls in (MAdam, LaMAdam, LaProp):
        for flags in ({"foreach": False}, {"foreach": True}, {"fused": True}, {}):
            # short-lived weight: dropped after 8 steps
            settings = {"lr": 0.05, **flags} | ({} if cls is LaProp else {"beta2_min": 0.05, "beta2_max": 0.1})
            alone = build()
            sharded = copy.deepcopy(alone)
            fully_shard(sharded, mesh=mesh)
            ours, theirs = cls(sharded.parameters(), **settings), cls(alone.parameters(), **settings)
            train(sharded, ours, 12, seed=1)
            train(alone, theirs, 12, seed=1)
            for p, q in zip(sharded.parameters(), alone.parameters(), strict=True):
                assert isinstance(p, DTensor)
                assert isinstance(ours.state[p]["exp_avg"], DTensor)
                torch.testing.assert_close(p.full_tensor(), q, rtol=1e-5, atol=1e-6)

        path = f"{folder}/{cls.__name__}"
        dcp.save({"optimizer": get_optimizer_state_dict(sharded, ours)}, checkpoint_id=path)
        again = build()
        fully_shard(again, mesh=mesh)
        fresh = cls(again.parameters(), **settings)
        state = {"optimizer": get_optimizer_state_dict(again, fresh)}
        dcp.load(state, checkpoint_id=path)
        set_optimizer_state_dict(again, fresh, state["optimizer"])
        again.load_state_dict(sharded.state_dict())
        train(sharded, ours, 3, seed=2)
        train(again, fresh, 3, seed=2)
        for p, q in zip(sharded.parameters(), again.parameters(), strict=True):
            assert torch.equal(p.full_tensor(), q.full_tensor())


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")
def test_fsdp2_on_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    mp.start_processes(worker, args=(str(tmp_path),), nprocs=2, start_method=PROCESSES.get_start_method())
