"""Stage evaluate_llm: frozen language models, and predictors without one, answer the prompts of a task.

Answers are stored raw with their prompts; scoring them is the next stage's work.
"""

import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from v2l.errors import UserError
from v2l.io.provenance import provenance
from v2l.io.storage import parquet_facts, parquet_writer, read_tensors
from v2l.llm.engine import generate
from v2l.llm.predictor import load_predictor
from v2l.llm.prompts import RestorationPrompt, answer_of
from v2l.manifest import Manifest
from v2l.restoration import MASKED_TASKS
from v2l.stage import Paths, StageConfig, run_stage
from v2l.tasks import captioning, classification, restoration, vqa
from v2l.tasks.text import code_texts
from v2l.tokens import Tokens


def run(config: StageConfig, inputs: Paths, outputs: Paths) -> None:
    """Write the predictions of `job.predictor` for `job.task` on the tokens of `job.tokenizer`."""
    schema, tables, total = PREPARE[config.job["task"]](config, inputs)
    rows = 0
    note = parquet_facts(inputs["tokens"])["tokenizer"]["note"]
    facts = {"protocol": config.evaluate_llm.protocol, "tokenizer_note": note}
    with (
        parquet_writer(outputs["predictions"], schema, provenance(config, inputs), facts) as writer,
        tqdm(total=total, desc=f"{config.job['task']} by {config.job['predictor']}", disable=None) as progress,
    ):
        for table in tables(progress):
            writer.write_table(table.cast(writer.schema))
            rows += len(table)
        progress.update(total - progress.n)
    logging.info("%d predictions by %s on %s", rows, config.job["predictor"], config.job["tokenizer"])


def _classification(config: StageConfig, inputs: Paths):
    section, predictor = config.evaluate_llm.classification, config.job["predictor"]
    manifest = Manifest.read(inputs["manifest"])
    tokens = Tokens.read(inputs["tokens"])
    if tokens.read_NK is None:
        raise UserError(
            f"tokenizer {config.job['tokenizer']} makes no tokens that stand for words, which classification reads",
            "a tokenizer with global tokens, or lqae",
            "leave it out of `evaluate_llm.classification.tokenizers`",
        )
    rows = manifest.rows_of(tokens.image_id.tolist())
    images = classification.Images(
        image_id=manifest.image_id[rows],
        split=manifest.split[rows],
        class_name=manifest.class_name[rows],
        code_NK=tokens.read_NK,
        text_V=code_texts(inputs),
    )

    def tables(progress: tqdm):
        if predictor == "token-overlap":
            answer = classification.overlap_predictor(images)
        elif predictor == "clip-prototype":
            features, _ = read_tensors(inputs["features"])
            answer = classification.prototype_predictor(features["feature_ND"].numpy()[rows])
        else:
            answer = _classifier(config, inputs, images, progress)
        return classification.predict(section, images, answer, config.seed)

    return classification.SCHEMA, tables, section.episodes * len(classification.cells(section))


def _classifier(config: StageConfig, inputs: Paths, images: classification.Images, progress: tqdm):
    """A predictor that asks the language model and takes what it writes up to the newline or end token."""
    section = config.evaluate_llm.classification
    model, tokenizer, words = load_predictor(config, inputs)
    stop_ids = words.stops("\n")

    def predict_cell(cell: classification.Cell, episodes: list) -> list[classification.Prediction]:
        prompts = [tokenizer(classification.prompt_of(cell, episode, images)).input_ids for episode in episodes]
        what = f"{cell.ways}-way, {cell.inner_shots} inner shots, {cell.repeats} repeats, {cell.tokens} tokens"
        outputs = generate(
            model,
            prompts,
            section.max_new_tokens,
            section.batch_size,
            stop_ids=stop_ids,
            names=[f"episode {episode.number} ({what})" for episode in episodes],
            remedy="lower ways, tokens, inner_shots or repeats in `evaluate_llm.classification.grid`",
            progress=progress,
        )
        texts = [tokenizer.decode([number for number in ids if number not in words.control]) for ids in outputs]
        return [
            classification.Prediction(prompt, ids, text, answer_of(text))
            for prompt, ids, text in zip(prompts, outputs, texts, strict=True)
        ]

    return predict_cell


def _restoration(config: StageConfig, inputs: Paths):
    section, tokenizer_name = config.evaluate_llm.restoration, config.job["tokenizer"]
    clean = Tokens.read(inputs["tokens"])
    maps = restoration.TokenMaps(
        grid=clean.grid,
        codebook_size=clean.tokenizer["codebooks"]["local_size"],
        image_ids=clean.image_id.tolist()[: section.images_of.get(tokenizer_name)],
        codes={},
    )
    for corruption in ["none", *(task for task in section.tasks if task not in MASKED_TASKS)]:
        rows = Tokens.read(inputs["tokens"], corruption)
        keys = [(corruption, image_id) for image_id in rows.image_id]
        maps.codes.update(zip(keys, rows.local_NL, strict=True))

    def tables(progress: tqdm):
        answer = restoration.majority_predictor
        if config.job["predictor"] != "majority-vote":
            answer = _restorer(config, inputs, maps, progress)
        return restoration.predict(section, maps, answer, config.seed)

    return restoration.SCHEMA, tables, restoration.prompts_in(section, maps)


def _restorer(config: StageConfig, inputs: Paths, maps: restoration.TokenMaps, progress: tqdm):
    """A predictor that shows code i to the language model as its i-th subword and takes ids back as codes."""
    section = config.evaluate_llm.restoration
    model, tokenizer, words = load_predictor(config, inputs)
    ids = _code_ids(inputs["vocabulary"], maps.codebook_size, config.job["tokenizer"])
    if not section.restrict_to_codebook and len(ids) < words.size:
        raise UserError(
            f"`evaluate_llm.restoration.restrict_to_codebook` is false, but the local codebook of "
            f"{config.job['tokenizer']} has {len(ids)} codes and the language model {words.size} ids",
            "a code for every id that can be generated",
            "set `evaluate_llm.restoration.restrict_to_codebook` to true",
        )
    code_of = {number: code for code, number in enumerate(ids.tolist())}
    prompt = RestorationPrompt(tokenizer)

    def predict_step(questions: list[restoration.Question]) -> list[restoration.Answer]:
        counts = [question.answer_SM.shape[1] for question in questions]
        prompts = [
            prompt.ids(
                zip(ids[question.example_SN].tolist(), ids[question.answer_SM].tolist(), strict=True),
                ids[question.query_N].tolist(),
                count,
            )
            for question, count in zip(questions, counts, strict=True)
        ]
        outputs = generate(
            model,
            prompts,
            counts,
            section.batch_size,
            allowed_ids=ids.tolist() if section.restrict_to_codebook else None,
            names=[question.name for question in questions],
            remedy="lower `context_tokens` or shorten `replacement_shares` in `evaluate_llm.restoration`",
            progress=progress,
        )
        return [
            restoration.Answer(shown, made, [code_of[number] for number in made])
            for shown, made in zip(prompts, outputs, strict=True)
        ]

    return predict_step


def _code_ids(vocabulary: Path, codebook_size: int, tokenizer_name: str) -> np.ndarray:
    """The LLM's id of each local code: the only id of the i-th subword."""
    table = pq.read_table(vocabulary, columns=["token_ids"], filters=[("kind", "==", "subword")])
    subwords = [ids[0] for ids in table["token_ids"].to_pylist()]
    if codebook_size > len(subwords):
        raise UserError(
            f"tokenizer {tokenizer_name} has {codebook_size} local codes, {vocabulary} has {len(subwords)} subwords",
            "a subword for every code",
            "raise `expand_vocabulary.max_subwords` or lower `train_tokenizer.network.learned_codebook_size`",
        )
    return np.array(subwords[:codebook_size], dtype=np.int64)


PREPARE = {
    "classification": _classification,
    "restoration": _restoration,
    "captioning": captioning.prepare,
    "vqa": vqa.prepare,
}

if __name__ == "__main__":
    run_stage(run)
