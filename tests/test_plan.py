"""What a plan counts against what PyTorch counts, its known values, and what it says of cards and of what was spent."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.conftest import Project
from tests.tiny import write_clip, write_roberta
from v2l.configuration.cards import Machine, read_cards
from v2l.configuration.experiment import load_experiment
from v2l.configuration.runs import Run
from v2l.configuration.sources import Source
from v2l.configuration.variants import variant_settings
from v2l.encoders.loader import load_encoder
from v2l.encoders.prompt_templates import prompt_templates
from v2l.errors import UserError
from v2l.llm.model_facts import plain_shape
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss
from v2l.models.lpips_network import empty_lpips
from v2l.models.tokenizer_file import tokenizer_class
from v2l.models.vision_tokenizer import Batch
from v2l.pipeline.stages import STAGES
from v2l.pipeline.timings import stage_totals
from v2l.plan.__main__ import planned
from v2l.plan.efficiencies import ASSUMED, Efficiencies
from v2l.plan.estimates import DECODED, Estimator
from v2l.plan.frozen_costs import EncoderCosts
from v2l.plan.language_models import LanguageModelShape
from v2l.plan.pretended import flop_counter
from v2l.plan.prompt_costs import PromptCosts
from v2l.plan.report import duration, plan_text, spent_text
from v2l.plan.tokenizer_costs import CodebookSizes, TokenizerCosts, untrained
from v2l.plan.workload import Memory, Workload
from v2l.tasks.restoration import prompts_in
from v2l.training.trainer import Trainer

TINY, PAPER = (load_experiment({"experiment": name}) for name in ("tiny", "paper"))
CARDS = read_cards()
SIZES = CodebookSizes(subwords=60, shared=20, width=16)
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
}
ESTIMATOR = Estimator(Efficiencies("a card", {"train_tokenizer": {"float32": {"share_of_limit": 0.5}}}), 8)


def machine(text: str) -> Machine:
    return Machine.parse(text, CARDS)


@pytest.fixture
def tiny_parts(tmp_path, monkeypatch):
    """The tiny experiment's encoder and masked language model, where its configuration looks for them."""
    (tmp_path / "tiny").mkdir()
    write_roberta(tmp_path / "tiny" / "roberta")
    write_clip(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", TINY.train_tokenizer.tokenizers)
def test_a_training_step_counts_as_the_trainers_own(name, tiny_parts):
    entry, images = TINY.tokenizers[name], 4
    settings = variant_settings(TINY.train_tokenizer, entry)
    costs = TokenizerCosts(untrained(name, entry, settings, SIZES), settings, SIZES.width)
    tokenizer = tokenizer_class(entry.method).create(name, entry, settings, SIZES.tables())
    discriminator = Discriminator(settings.network) if settings.loss.adversarial else None
    perceptual = PerceptualLoss(empty_lpips("vgg")) if settings.loss.perceptual else None
    trainer = Trainer(settings, tokenizer, discriminator, perceptual, steps=100)
    side = settings.network.image_size
    batch = Batch(
        torch.rand(images, 3, side, side) * 2 - 1,
        torch.rand(images, SIZES.width),
        torch.rand(images, tokenizer.geometry.grid**2),
        torch.zeros(images, tokenizer.global_tokens, dtype=torch.int64),
    )
    with flop_counter() as counter:
        trainer.step(settings.loss.discriminator_start + 1, batch)
    planned_flops = costs.generator().flops(images) + costs.critics().flops(images)
    assert planned_flops == pytest.approx(counter.get_total_flops(), rel=0.05)
    with flop_counter() as counter, torch.no_grad():
        codes = tokenizer.encode(batch.image_BCHW, batch.feature_BD)
    assert costs.encode_flops(images) == pytest.approx(counter.get_total_flops(), rel=0.05)
    with flop_counter() as counter, torch.no_grad():
        tokenizer.decode(codes.local_BL.clamp(min=0), codes.global_BK)  # a table of zeros has no nearest codes
    assert costs.decode_flops(images) == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert costs.parameters == sum(value.numel() for value in tokenizer.parameters())


@pytest.mark.slow
def test_the_papers_generator_has_its_known_cost():
    settings, sizes = PAPER.train_tokenizer, CodebookSizes(32_000, 11_908, 768)
    costs = TokenizerCosts(untrained("v2l", PAPER.tokenizers["v2l"], settings, sizes), settings, 768)
    generator, images = costs.generator(), 2
    search = 2 * 256 * 32_000 * 768 + 2 * 11_908 * 768
    projection = 2 * 32_000 * 768**2
    forward = (costs.forward_flops(images) - projection) / images - search
    assert generator.per_pass.flops == pytest.approx(projection, rel=0.01)
    assert forward == pytest.approx(172e9, rel=0.01)
    assert generator.per_image.flops - search - forward == pytest.approx(344e9, rel=0.01)
    assert generator.per_image.kept_bytes == pytest.approx(380e6, rel=0.02)  # with fused norms; 540 without


def test_encoders_count_as_they_compute(tiny_parts, monkeypatch):
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)  # PyTorch counts nothing of it
    entry = TINY.encoders["tiny-clip"]
    costs, encoder = EncoderCosts(entry), load_encoder(entry, torch.device("cpu"))
    with flop_counter() as counter:
        encoder.encode_squares(torch.zeros(2, 32, 32, 3, dtype=torch.uint8).numpy())
    assert 2 * costs.image_flops() == pytest.approx(counter.get_total_flops(), rel=0.05)
    text = "a photo of a dog."
    with flop_counter() as counter:
        encoder.encode_text([text] * 2)
    assert 2 * costs.text_flops(costs.text_tokens(text)) == pytest.approx(counter.get_total_flops(), rel=0.05)
    templates = prompt_templates(["a photo of {}.", "{} it is"])
    encoder.mean_over_templates(templates, ["a big dog"])  # the beginnings, once
    with flop_counter() as counter:
        encoder.mean_over_templates(templates, ["a big dog"] * 2)
    assert 2 * sum(map(costs.prompt_flops, templates)) == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert costs.prompt_flops(templates[0]) < 0.8 * costs.text_flops(costs.text_tokens(templates[0]("a big dog")))
    assert costs.width == encoder.dimension


@pytest.mark.parametrize("config", [SHAPE, LanguageModelShape.of("llama2-7b", PAPER.llms["llama2-7b"]).config])
def test_language_models_count_as_they_compute(config):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            LlamaConfig(**config), attn_implementation="eager", trust_remote_code=False
        )
        token_1T, mask_11TT = torch.zeros(1, 96, dtype=torch.int64), torch.zeros(1, 1, 96, 96)
    with flop_counter() as counter, torch.no_grad():
        model(token_1T, attention_mask=mask_11TT, use_cache=False, logits_to_keep=1)
    assert LanguageModelShape(plain_shape(config), False, "float32", 0).forward(96, 96) == pytest.approx(
        counter.get_total_flops(), rel=0.05
    )


def test_an_adapters_step_counts_as_it_computes():
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(**SHAPE), attn_implementation="eager", trust_remote_code=False
    ).requires_grad_(False)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=1, target_modules=["q_proj", "k_proj"]))
    with flop_counter() as counter:
        logits = adapted(torch.zeros(1, 96, dtype=torch.int64), use_cache=False, logits_to_keep=40).logits
        logits.sum().backward()
    assert LanguageModelShape(plain_shape(SHAPE), False, "float32", 0).adaptation(96, 40) == pytest.approx(
        counter.get_total_flops(), rel=0.05
    )


def test_published_shapes_stand_in_for_models_that_are_not_there():
    found = {name: LanguageModelShape.of(name, entry) for name, entry in PAPER.llms.items()}
    assert all(shape.assumed for shape in found.values())
    assert [round(shape.weight_bytes("float16") / 2e9, 1) for shape in found.values()] == [6.7, 13.0, 69.0]


def test_restoration_asks_the_prompts_that_the_task_counts():
    costs = PromptCosts(PAPER, PAPER.llms["llama2-7b"])
    run = Run("v2l", Source("restoration", "llama2-7b"))
    found = costs.prompts(run, (16, 16), 5000)
    maps = SimpleNamespace(grid=(16, 16), image_ids=range(5000))
    assert sum(part.asked for part in found) == prompts_in(PAPER.evaluate_llm.restoration, maps) == 2_400_000
    assert all(part.new == 2 and part.cached < part.length for part in found)
    assert found[2].length > found[0].length  # n + m tokens are shown, not n


def test_questions_of_a_context_share_its_examples():
    costs = PromptCosts(PAPER, PAPER.llms["llama2-7b"])
    (found,) = costs.prompts(Run("v2l", Source("captioning", "llama2-7b")), (16, 16), 5010)
    assert found.asked == 5000 and 0.8 * found.length < found.cached < found.length


def test_time_is_flops_over_the_share_of_the_peak():
    work = Workload("train_tokenizer", "v2l", 1, "images", flops=66.9e12 * 0.5 * 3600, precision="float32")
    found = ESTIMATOR.estimate(work, machine("4 H100"))
    assert found[:2] == pytest.approx((1, 0.25)) and found.fits
    decoded = work._replace(decoded=DECODED * 8 * 4 * 7200)
    assert ESTIMATOR.estimate(decoded, machine("4 H100")).wall_hours == pytest.approx(2)


def test_a_card_without_the_precision_is_told():
    work = Workload("train_tokenizer", "v2l", 1, "images", flops=1e18, precision="bfloat16")
    machines = [machine("1 V100-32GB"), machine("1 A100-80GB")]
    old, new = (ESTIMATOR.estimate(work, found) for found in machines)
    assert old.instead == "float32" and "V100-32GB has no bfloat16: computed in float32" in old.remarks
    assert new.instead == "" and old.card_hours > new.card_hours
    text = plan_text("A plan", [(work, [old, new])], machines, [])
    assert re.search(r"v2l .*\(float32\)", text) and "V100-32GB has no bfloat16" in text
    assert [name for name, card in CARDS.items() if card.needs_older_build] == ["V100-16GB", "V100-32GB"]


def test_what_does_not_fit_is_told_with_what_to_change():
    memory = Memory(fixed=10e9, per_item=1e9, items=256, is_shared=True)
    work = Workload("train_tokenizer", "v2l", 1, "images", flops=1e18, precision="float32", memory=memory)
    alone, together = (ESTIMATOR.estimate(work, machine(text)) for text in ("1 H100", "8 H100"))
    assert not alone.fits and "set train_tokenizer.micro_batch_size to at most 63" in " ".join(alone.remarks)
    assert together.fits and together.memory == 42e9


def test_a_language_model_is_spread_over_as_many_cards_as_it_needs():
    memory = Memory(fixed=138e9, is_divisible=True)
    work = Workload("evaluate_llm", "70b", 1, "prompts", flops=1e18, precision="float16", memory=memory)
    alone, eight = (ESTIMATOR.estimate(work, machine(text)) for text in ("1 A100-80GB", "8 A100-80GB"))
    assert (alone.cards, alone.fits) == (2, False) and (eight.cards, eight.fits) == (2, True)
    assert eight.wall_hours == pytest.approx(eight.card_hours / 8)


def test_shares_that_nobody_measured_are_assumed_and_told():
    found = Efficiencies("a card", {"embed_images": {"float32": {"share_of_limit": 0.3}}})
    assert found.share("embed_images", "float32") == (0.3, "")
    assert found.share("embed_images", "float16").value == 0.3 and found.share("embed_images", "float16").note
    assert found.share("finetune_llm", "float16").value == ASSUMED


def test_a_task_has_the_share_that_benchmarks_measured_of_it_or_the_slowest():
    shares = {"restoration": 0.47, "classification": 0.16}
    found = Efficiencies(
        "a card",
        {f"evaluate_llm.{task}": {"float16": {"share_of_limit": share}} for task, share in shares.items()}
        | {"embed_images.squares": {"tf32": {"share_of_limit": 0.5}}}
        | {"embed_images": {"tf32": {"share_of_limit": 0.3}}},
    )
    assert found.share("evaluate_llm", "float16", "restoration") == (0.47, "")
    assert found.share("evaluate_llm", "float16", "vqa") == found.share("evaluate_llm", "float16") == (0.16, "")
    assert found.share("embed_images", "tf32") == (0.3, "")


def test_wrong_names_and_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="did you mean `A100-80GB`"):
        machine("8 A100-80G")
    (tmp_path / "shares.json").write_text(json.dumps({"stages": {"embed_images": {"tf32": {"share_of_limit": 3}}}}))
    with pytest.raises(UserError, match="not above 0 and at most 1"):
        Efficiencies.read(tmp_path / "shares.json")
    (tmp_path / "cards.yaml").write_text("H100: {memory: 80}\n")
    with pytest.raises(UserError, match="cannot be read as cards"):
        read_cards(tmp_path / "cards.yaml")


@pytest.mark.parametrize("name", ["tiny", "demo", pytest.param("paper", marks=pytest.mark.slow)])
def test_every_stage_is_planned(name):
    config = load_experiment({"experiment": name})
    rows, machines, _ = planned(config)
    assert {work.stage for work, _ in rows} == set(STAGES) - {"decode_images"}, "no experiment asks for it"
    assert all(work.items > 0 for work, _ in rows if work.stage != "fetch_assets")
    assert all(found.card_hours > 0 for work, estimates in rows if work.flops for found in estimates)
    trained = [work.what for work, _ in rows if work.stage == "train_tokenizer"]
    assert [what.partition(",")[0] for what in trained] == config.train_tokenizer.tokenizers
    assert len(machines) == len(config.plan.machines)


def test_decoded_pictures_are_planned_once_for_all_trainings():
    changes = {"experiment": "demo-training", "train_tokenizer": {"decoded_images": True}}
    rows = [work for work, _ in planned(load_experiment(changes))[0]]
    decoding = [work for work in rows if work.stage == "decode_images"]
    assert [(work.bytes_written, work.decoded) for work in decoding] == [
        (3 * 64**2 * work.items, work.items) for work in decoding
    ]
    assert len(decoding) == 1
    assert all(work.decoded == 0 for work in rows if work.stage == "train_tokenizer")


def test_planned_stands_beside_spent(tmp_path):
    for name, seconds in (("train_tokenizer/v2l", 3600), ("train_tokenizer/vqgan", 1800), ("make_tables/a", 36)):
        path = tmp_path / f"{name}.benchmark.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t100\n")
    work = Workload("train_tokenizer", "v2l", 1, "images", flops=66.9e12 * 0.5 * 7200, precision="float32")
    rows = [(work, [ESTIMATOR.estimate(work, machine("1 H100"))])]
    text = spent_text(rows, [machine("1 H100")], stage_totals(tmp_path))
    assert re.search(r"train_tokenizer +2 +1\.5 h +2\.0 h", text) and re.search(r"make_tables +1 +36\.0 s +-", text)
    assert spent_text(rows, [], {}) == ""


def test_durations_have_units_of_their_size():
    assert [duration(value) for value in (None, 0.01, 0.5, 30, 96)] == ["-", "36.0 s", "30.0 min", "30.0 h", "4.0 days"]


def test_the_target_needs_nothing_and_runs_nothing_else(tmp_path):
    project = Project(tmp_path)
    choice = "plan={machines: [2 RTX-4090]}"
    assert project.planned("plan") == {"plan": 1}
    result = project.snakemake("plan", "--config", "experiment=tiny", choice)
    assert result.returncode == 0, result.stdout
    assert "2 RTX-4090" in result.stdout and "llms.tiny-llama.path: tiny/llama" in result.stdout
    made = sorted(path.name for path in (project.folder / "results" / "tiny").rglob("*"))
    assert made == ["plan.json"]
    rows = json.loads((project.folder / "results" / "tiny" / "plan.json").read_text())
    assert {row["stage"] for row in rows} == set(STAGES) - {"decode_images"}
