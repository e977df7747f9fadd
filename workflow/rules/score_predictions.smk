"""Per-item and aggregate metrics; a metric fix costs no evaluation."""


rule score_predictions_answers:
    input:
        assets=lambda w: assets_of(*encoder_keys(w)),
        predictions=f"{RESULTS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.parquet",
        manifest=lambda w: [f"{RESULTS}/index_images/{sample_dataset(w)}.parquet"] if encoder_keys(w) else [],
        features=lambda w: [f"{RESULTS}/embed_images/{sample_dataset(w)}.safetensors"] if encoder_keys(w) else [],
    output:
        metrics=f"{RESULTS}/score_predictions/{{tokenizer}}/{{task}}.{{predictor}}.json",
        per_item=f"{RESULTS}/score_predictions/{{tokenizer}}/{{task}}.{{predictor}}.parquet",
    log:
        f"{LOGS}/score_predictions/{{tokenizer}}/{{task}}.{{predictor}}.log",
    benchmark:
        f"{LOGS}/score_predictions/{{tokenizer}}/{{task}}.{{predictor}}.benchmark.tsv"
    wildcard_constraints:
        task="classification|captioning|vqa",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        **params_of("score_predictions", lambda w: score_slice("{task}.{predictor}", *encoder_keys(w))(w)),
    message:
        "score_predictions: {wildcards.predictor} on {wildcards.tokenizer} tokens, {wildcards.task}"
    shell:
        stage_command("score_predictions", ["predictions", "manifest", "features"], ["metrics", "per_item"])


rule score_predictions_semantics:
    input:
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/semantics.parquet",
        assets=assets_of(f"encoders.{CONFIG.encoder}"),
        words=f"{RESULTS}/train_tokenizer/{{tokenizer}}.words.parquet",
        embedding=rules.embed_vocabulary.output.embedding,
        manifest=f"{RESULTS}/index_images/{CONFIG.samples['semantics'].dataset}.parquet",
        features=f"{RESULTS}/embed_images/{CONFIG.samples['semantics'].dataset}.safetensors",
    output:
        metrics=f"{RESULTS}/score_predictions/{{tokenizer}}/semantics.json",
        per_item=f"{RESULTS}/score_predictions/{{tokenizer}}/semantics.parquet",
    log:
        f"{LOGS}/score_predictions/{{tokenizer}}/semantics.log",
    benchmark:
        f"{LOGS}/score_predictions/{{tokenizer}}/semantics.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        **params_of(
            "score_predictions",
            score_slice("semantics", "encoder", f"encoders.{CONFIG.encoder}", "embed_vocabulary"),
        ),
    message:
        "score_predictions: global tokens of {wildcards.tokenizer} against their images"
    shell:
        stage_command(
            "score_predictions",
            ["tokens", "words", "embedding", "manifest", "features"],
            ["metrics", "per_item"],
        )


rule score_predictions_images:
    input:
        assets=assets_of("score_predictions"),
        images=f"{RESULTS}/reconstruct_images/{{tokenizer}}/{{source}}.parquet",
        manifest=source_manifest,
    output:
        metrics=f"{RESULTS}/score_predictions/{{tokenizer}}/{{source}}.json",
        per_item=f"{RESULTS}/score_predictions/{{tokenizer}}/{{source}}.parquet",
    log:
        f"{LOGS}/score_predictions/{{tokenizer}}/{{source}}.log",
    benchmark:
        f"{LOGS}/score_predictions/{{tokenizer}}/{{source}}.benchmark.tsv"
    wildcard_constraints:
        source=r"reconstruction|(reconstruction|restoration|masked)\..+",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **SHARDS,
    params:
        **params_of("score_predictions", score_slice("{source}")),
    message:
        "score_predictions: {wildcards.source} of {wildcards.tokenizer} against the originals"
    shell:
        stage_command("score_predictions", ["images", "manifest"], ["metrics", "per_item"], machine=SHARDS)
