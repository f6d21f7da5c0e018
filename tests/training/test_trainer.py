"""GlueTrainer: any optimizer, the loss over accumulated batches, the schedule, and what it logs."""

import numpy as np
import pytest
import torch
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from glue_mva import GlueTrainer, LaMAdam, MAdam
from glue_mva.config.resolve import resolve
from glue_mva.config.run import RunConfig
from glue_mva.config.schedule import Schedule
from glue_mva.data.encode import encode
from glue_mva.data.load import load_task
from glue_mva.errors import UsageError
from glue_mva.models.load import load_model, load_tokenizer, locate
from glue_mva.training.trainer import mean_loss


@pytest.fixture
def parts(glue, tiny_models, tmp_path):
    config = resolve(RunConfig(task="rte", optim="adam", data=glue, model=tiny_models["bert"], max_train_samples=48))
    data, tokenizer = load_task(config), load_tokenizer(locate(config.model))
    split = encode(data.train, data.task, tokenizer, 32)

    def make(batch=8, accumulate=1, cls=GlueTrainer, optim="lamadam", steps=6, dropout=0.0, report=(), cards=0,
             smoothing=0.0, **kwargs):  # fmt: skip
        torch.manual_seed(0)
        quiet = config.replace(hidden_dropout=dropout, attention_dropout=dropout, classifier_dropout=dropout)
        arguments = TrainingArguments(
            str(tmp_path / "out"), max_steps=steps, per_device_train_batch_size=batch, logging_steps=1,
            gradient_accumulation_steps=accumulate, learning_rate=1e-3, weight_decay=0.1, report_to=list(report),
            use_cpu=True, remove_unused_columns=False, disable_tqdm=True, max_grad_norm=0.0, save_strategy="no",
            logging_nan_inf_filter=False, label_names=["labels"], label_smoothing_factor=smoothing,
        )  # fmt: skip
        arguments._n_gpu = cards
        if cls is GlueTrainer:
            kwargs["optim"] = optim
        return cls(model=load_model(locate(quiet.model), quiet), args=arguments, train_dataset=split,
                   data_collator=DataCollatorWithPadding(tokenizer), **kwargs)  # fmt: skip

    return make


def test_several_cards_do_not_multiply_the_batch(parts):
    """The Trainer itself would take all of them, by DataParallel, and its loss would be so many times too large."""
    assert parts(cls=Trainer, cards=4).args.train_batch_size == 32
    assert parts(cards=4).args.train_batch_size == 8


def test_a_second_training_begins_with_a_schedule_and_curves_of_its_own(parts):
    trainer = parts(steps=6, lr_schedule=Schedule(6, 2, 6, 6))
    logged = []
    for _ in range(2):
        trainer.train()
        logged.append([(e["learning_rate"], "step_size" in e) for e in trainer.state.log_history if "loss" in e])
    assert logged[0] == logged[1] and logged[0][2] == (pytest.approx(1e-3), True)


def test_a_loss_that_is_not_ours_is_refused(parts):
    with pytest.raises(UsageError, match=r"label_smoothing_factor 0\.1: GlueTrainer's own loss has none"):
        parts(smoothing=0.1)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_accumulation_does_not_change_the_update(parts):
    trainers = [parts(optim=torch.optim.SGD, batch=b, accumulate=a) for b, a in ((8, 1), (2, 4))]
    [t.train() for t in trainers]
    torch.testing.assert_close(weights(trainers[0]), weights(trainers[1]), atol=1e-6, rtol=0)
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in trainers]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)


class PlainSGD(torch.optim.SGD):
    """An optimizer of somebody else's, for `pkg.module:Class`."""


@pytest.mark.parametrize("optim", ["adam", "laprop", "madam", "lamadam", torch.optim.SGD, f"{__name__}:PlainSGD"])
def test_any_optimizer_by_name_class_or_path(parts, optim):
    trainer = parts(optim=optim, steps=4, decay_all_parameters=True)
    trainer.train()
    logged = [e for e in trainer.state.log_history if "loss" in e]
    assert len(logged) == 4 and all(e["step_size"] >= 0 for e in logged)
    assert all(("beta_mean" in e) == (optim in ("madam", "lamadam")) for e in logged)
    assert sum(len(g["params"]) for g in trainer.optimizer.param_groups if g["weight_decay"] == 0.1) == len(
        list(trainer.model.parameters())
    )


def test_the_step_size_of_sgd_is_lr_times_gradient(parts):
    """One update without weight decay: mean |lr g|, from the weights before and after."""
    trainer = parts(optim=torch.optim.SGD, steps=1)
    trainer.args.weight_decay = 0.0
    trainer.lr_schedule = Schedule(10, 0, 1, 6)
    before = weights(trainer)
    trainer.train()
    mean = (weights(trainer) - before).abs().mean().item()
    assert trainer.state.log_history[0]["step_size"] == pytest.approx(mean, rel=1e-5) and mean > 0


def test_beta_statistics_lie_in_the_range(parts):
    trainer = parts(optim="madam", steps=6)
    trainer.train()
    logged = [e for e in trainer.state.log_history if "beta_mean" in e]
    assert all(0.5 <= e["beta_mean"] <= 0.98 + 1e-6 for e in logged)
    assert logged[0]["beta_at_max"] == 1.0  # the first step takes beta2_max everywhere
    assert all(0 <= e["beta_at_min"] + e["beta_at_max"] <= 1 + 1e-6 for e in logged)


def test_nothing_is_measured_between_logged_updates(parts, monkeypatch):
    calls = []
    import glue_mva.optim.dynamics as dynamics

    original = dynamics.average_step_size
    monkeypatch.setattr(dynamics, "average_step_size", lambda o: (calls.append(1), original(o))[1])
    trainer = parts(steps=6)
    trainer.args.logging_steps = 3
    trainer.train()
    assert len(calls) == 2


def test_no_gradient_norm_is_computed_where_nothing_is_clipped(parts, monkeypatch):
    """Why `_get_grad_norm` is overridden: the Trainer computes the norm at every update, to log it. Where it no longer
    asks that method, this fails."""
    trainer, plain = parts(steps=3), parts(cls=Trainer, steps=3)
    for each, norms in ((trainer, 0), (plain, 3)):
        calls = []
        clip = each.accelerator.clip_grad_norm_
        monkeypatch.setattr(each.accelerator, "clip_grad_norm_", lambda *a, c=clip, n=calls: (n.append(1), c(*a))[1])
        each.train()
        assert len(calls) == norms


def test_the_schedule_may_end_after_training_does(parts):
    trainer = parts(steps=6, lr_schedule=Schedule(total_steps=12, warmup_steps=2, max_steps=6, steps_per_epoch=6))
    trainer.train()
    rates = [e["learning_rate"] for e in trainer.state.log_history if "loss" in e]
    expected = [0.0, 0.5, 1.0, 0.9, 0.8, 0.7]  # the rate at which each update was made
    np.testing.assert_allclose(np.array(rates) / 1e-3, expected, atol=1e-6)


def test_the_plain_trainer_takes_the_optimizers(parts):
    trainer = parts(cls=Trainer, optimizer_cls_and_kwargs=(MAdam, {"lr": 2e-5, "eps": 1e-6}))
    trainer.train()
    assert isinstance(trainer.optimizer.optimizer, MAdam)
    assert trainer.state.global_step == 6


def test_a_loss_of_the_users_is_taken(parts):
    def double(outputs, labels, num_items_in_batch=None):
        return 2 * mean_loss(outputs, labels, num_items_in_batch)

    losses = []
    for loss in (None, double):
        trainer = parts(optim=torch.optim.SGD, steps=1, compute_loss_func=loss)
        trainer.train()
        losses.append(next(e["loss"] for e in trainer.state.log_history if "loss" in e))
    assert losses[1] == pytest.approx(2 * losses[0])


def test_the_optimizer_gets_the_papers_constants_unless_told_otherwise(parts):
    trainer = parts(optim="lamadam", optim_args={"beta2_min": 0.7})
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, LaMAdam)
    group = optimizer.param_groups[0]
    assert (group["beta2_min"], group["beta2_max"], group["eps"], group["lr"]) == (0.7, 0.98, 1e-15, 1e-3)


def test_an_optimizer_that_is_not_there():
    with pytest.raises(UsageError, match="no class 'Nothing'"):
        GlueTrainer(optim="torch.optim:Nothing")
    with pytest.raises(UsageError, match="no_such_module"):
        GlueTrainer(optim="no_such_module:X")


def test_mean_loss_by_hand():
    logits = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    loss = mean_loss({"logits": logits}, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((np.log(1 + np.exp(-1)) + np.log(2)) / 2)
    part = mean_loss({"logits": torch.tensor([[3.0]])}, torch.tensor([1.0]), num_items_in_batch=4)
    assert part.item() == pytest.approx(1.0)
