"""Per-item and aggregate metrics; a metric fix costs no evaluation."""


def score_slice(source):
    """Params of a score: the metric settings and what is scored."""
    return slice_of("seed", "score_predictions", tokenizer="{tokenizer}", source=source)


def scored_weights(wildcards):
    """Weights whose geometry the originals are read with."""
    pixels = wildcards.tokenizer == "pixels"
    return ANY_WEIGHTS if pixels else f"{RESULTS}/train_tokenizer/{wildcards.tokenizer}.safetensors"


rule score_predictions_classification:
    message:
        "score_predictions: {wildcards.predictor} on {wildcards.tokenizer} tokens, few-shot classification"
    input:
        predictions=f"{RESULTS}/evaluate_llm/{{tokenizer}}/{{predictor}}/classification.parquet",
        code=stage_code("score_predictions"),
    output:
        metrics=f"{RESULTS}/score_predictions/{{tokenizer}}/classification.{{predictor}}.json",
        per_item=f"{RESULTS}/score_predictions/{{tokenizer}}/classification.{{predictor}}.parquet",
    params:
        config=score_slice("classification.{predictor}"),
    log:
        f"{LOGS}/score_predictions/{{tokenizer}}/classification.{{predictor}}.log",
    benchmark:
        f"{LOGS}/score_predictions/{{tokenizer}}/classification.{{predictor}}.benchmark.tsv"
    threads: 1
    shell:
        stage_command("score_predictions", ["predictions"], ["metrics", "per_item"])


rule score_predictions_semantics:
    message:
        "score_predictions: global tokens of {wildcards.tokenizer} against their images"
    input:
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/semantics.parquet",
        embedding=rules.embed_vocabulary.output.embedding,
        entries=rules.filter_vocabulary.output.entries,
        manifest=f"{RESULTS}/index_images/{CONFIG.samples['semantics'].dataset}.parquet",
        features=f"{RESULTS}/embed_images/{CONFIG.samples['semantics'].dataset}.safetensors",
        code=stage_code("score_predictions"),
    output:
        metrics=f"{RESULTS}/score_predictions/{{tokenizer}}/semantics.json",
        per_item=f"{RESULTS}/score_predictions/{{tokenizer}}/semantics.parquet",
    params:
        config=score_slice("semantics"),
    log:
        f"{LOGS}/score_predictions/{{tokenizer}}/semantics.log",
    benchmark:
        f"{LOGS}/score_predictions/{{tokenizer}}/semantics.benchmark.tsv"
    threads: 8
    shell:
        stage_command(
            "score_predictions",
            ["tokens", "embedding", "entries", "manifest", "features"],
            ["metrics", "per_item"],
        )


rule score_predictions_images:
    message:
        "score_predictions: {wildcards.source} of {wildcards.tokenizer} against the originals"
    input:
        assets=assets_of("score_predictions"),
        images=f"{RESULTS}/reconstruct_images/{{tokenizer}}/{{source}}.parquet",
        manifest=source_manifest,
        weights=scored_weights,
        code=stage_code("score_predictions"),
    output:
        metrics=f"{RESULTS}/score_predictions/{{tokenizer}}/{{source}}.json",
        per_item=f"{RESULTS}/score_predictions/{{tokenizer}}/{{source}}.parquet",
    params:
        config=score_slice("{source}"),
    log:
        f"{LOGS}/score_predictions/{{tokenizer}}/{{source}}.log",
    benchmark:
        f"{LOGS}/score_predictions/{{tokenizer}}/{{source}}.benchmark.tsv"
    wildcard_constraints:
        source=r"reconstruction|mean-image|corrupted-input|restoration\..+",
    threads: 8
    shell:
        stage_command("score_predictions", ["images", "manifest", "weights"], ["metrics", "per_item"])
