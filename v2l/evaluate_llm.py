"""Stage evaluate_llm: frozen language models, and predictors without one, answer the prompts of a task.

Answers are stored raw with their prompts; scoring them is the next stage's work.
"""

import logging

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from v2l.errors import UserError
from v2l.io.provenance import provenance
from v2l.io.storage import parquet_facts, parquet_writer, read_tensors
from v2l.llm.code_ids import code_ids, shown_codes, with_codes
from v2l.llm.engine import generate
from v2l.llm.loading import load_llm
from v2l.llm.prompts import RestorationPrompt, answer_of
from v2l.llm.vocabulary import Words
from v2l.manifest import Manifest
from v2l.restoration import MASKED_TASKS
from v2l.runtime import device
from v2l.stage import Paths, StageConfig, run_stage
from v2l.tasks import classification, restoration
from v2l.tokens import Tokens


def run(config: StageConfig, inputs: Paths, outputs: Paths) -> None:
    """Write the predictions of `job.predictor` for `job.task` on the tokens of `job.tokenizer`."""
    prepare = {"classification": _classification, "restoration": _restoration}[config.job["task"]]
    schema, tables, total = prepare(config, inputs)
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
    section = config.evaluate_llm.classification.for_tokenizer(config.job["tokenizer"])
    predictor = config.job["predictor"]
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
        text_V=pq.read_table(inputs["words"], columns=["text"])["text"].to_pylist(),
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
    section = config.evaluate_llm.classification.for_tokenizer(config.job["tokenizer"])
    model, tokenizer, words = _llm(config, inputs)
    newlines = {number for number, text in words.subwords() if "\n" in text}
    stop_ids = newlines | words.control

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
            remedy="lower ways, tokens, inner_shots or repeats in `evaluate_llm.classification.grid` or `grid_of`",
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
    codes = {}
    for corruption in ["none", *(task for task in section.tasks if task not in MASKED_TASKS)]:
        rows = Tokens.read(inputs["tokens"], corruption)
        codes.update(zip([(corruption, image_id) for image_id in rows.image_id], rows.local_NL, strict=True))
    shown_C = shown_codes(clean.tokenizer, parquet_facts(inputs["tokens"])["vocabulary"], codes.values())
    maps = restoration.TokenMaps(
        grid=clean.grid,
        codebook_size=len(shown_C),
        image_ids=clean.image_id.tolist()[: section.images_of.get(tokenizer_name)],
        codes={key: np.searchsorted(shown_C, code_L) for key, code_L in codes.items()},
    )

    def tables(progress: tqdm):
        answer = restoration.majority_predictor
        if config.job["predictor"] != "majority-vote":
            answer = _restorer(config, inputs, clean.tokenizer, maps, progress)
        for table in restoration.predict(section, maps, answer, config.seed):
            yield with_codes(table, ("predicted_codes", "target_codes"), shown_C)

    return restoration.SCHEMA, tables, restoration.prompts_in(section, maps)


def _restorer(
    config: StageConfig, inputs: Paths, facts: dict, maps: restoration.TokenMaps, progress: tqdm
) -> restoration.Predictor:
    """A predictor that shows codes to the language model as `v2l.llm.code_ids` says and takes ids back as codes."""
    section = config.evaluate_llm.restoration
    model, tokenizer, words = _llm(config, inputs)
    ids = code_ids(facts, maps.codebook_size, words, inputs["vocabulary"])
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


def _llm(config: StageConfig, inputs: Paths):
    """Model, tokenizer and words of `job.predictor`, whose vocabulary must be that of the tokens."""
    name = config.job["predictor"]
    model, tokenizer = load_llm(name, config.llms[name], device())
    words = Words(tokenizer)
    for key in ("tokens", "vocabulary"):
        words.require(name, parquet_facts(inputs[key])["vocabulary"], inputs[key])
    return model, tokenizer, words


if __name__ == "__main__":
    run_stage(run)
