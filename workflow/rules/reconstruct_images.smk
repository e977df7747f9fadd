"""Decoded images: of clean tokens, of restored token maps, and the pictures that no tokenizer made."""


rule reconstruct_images:
    input:
        weights=f"{RESULTS}/train_tokenizer/{{tokenizer}}.safetensors",
        tokens=lambda w: f"{RESULTS}/extract_tokens/{w.tokenizer}/{source_task(w)}.parquet",
    output:
        images=f"{RESULTS}/reconstruct_images/{{tokenizer}}/{{source}}.parquet",
    log:
        f"{LOGS}/reconstruct_images/{{tokenizer}}/{{source}}.log",
    benchmark:
        f"{LOGS}/reconstruct_images/{{tokenizer}}/{{source}}.benchmark.tsv"
    wildcard_constraints:
        source="|".join(
            [
                source_pattern("reconstruction"),
                source_pattern("restoration", "tokenizer-oracle"),
                source_pattern("masked", "tokenizer-oracle", "corrupted-input"),
            ]
        ),
    conda:
        ENVIRONMENT
    threads: 1
    params:
        **params_of("reconstruct_images", reconstruct_slice(source_keys)),
    message:
        "reconstruct_images: {wildcards.tokenizer} decodes its own tokens ({wildcards.source})"
    shell:
        stage_command("reconstruct_images", ["weights", "tokens"], ["images"])


rule reconstruct_images_restored:
    input:
        weights=f"{RESULTS}/train_tokenizer/{{tokenizer}}.safetensors",
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/{{task}}.parquet",
        predictions=f"{RESULTS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.parquet",
    output:
        images=f"{RESULTS}/reconstruct_images/{{tokenizer}}/{{task}}.{{predictor}}.parquet",
    log:
        f"{LOGS}/reconstruct_images/{{tokenizer}}/{{task}}.{{predictor}}.log",
    benchmark:
        f"{LOGS}/reconstruct_images/{{tokenizer}}/{{task}}.{{predictor}}.benchmark.tsv"
    wildcard_constraints:
        task="restoration|masked",
        predictor=run_pattern(),
    conda:
        ENVIRONMENT
    threads: 1
    params:
        **params_of(
            "reconstruct_images", reconstruct_slice(lambda w: ["evaluate_llm.{task}"], source="{task}.{predictor}")
        ),
    message:
        "reconstruct_images: {wildcards.tokenizer} decodes what {wildcards.predictor} restored ({wildcards.task})"
    shell:
        stage_command("reconstruct_images", ["weights", "tokens", "predictions"], ["images"])


rule reconstruct_images_pixels:
    input:
        manifest=source_manifest,
        train_manifest=training_manifest,
    output:
        images=f"{RESULTS}/reconstruct_images/pixels/{{source}}.parquet",
    log:
        f"{LOGS}/reconstruct_images/pixels/{{source}}.log",
    benchmark:
        f"{LOGS}/reconstruct_images/pixels/{{source}}.benchmark.tsv"
    wildcard_constraints:
        source="|".join(
            [
                source_pattern("reconstruction", "mean-image"),
                source_pattern("restoration", "corrupted-input"),
            ]
        ),
    conda:
        ENVIRONMENT
    threads: 1
    params:
        **params_of("reconstruct_images", reconstruct_slice(pixel_keys, tokenizer="pixels")),
    message:
        "reconstruct_images: {wildcards.source}, which no tokenizer made"
    shell:
        stage_command("reconstruct_images", ["manifest", "train_manifest"], ["images"])
