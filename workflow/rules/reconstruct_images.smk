"""Decoded images: of clean tokens, of restored token maps, and the pictures that no tokenizer made."""


rule reconstruct_images:
    input:
        weights=f"{RESULTS}/train_tokenizer/{{tokenizer}}.safetensors",
        tokens=lambda w: f"{RESULTS}/extract_tokens/{w.tokenizer}/{source_task(w)}.parquet",
        code=code_of("reconstruct_images"),
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
        config=lambda w: slice_of(
            "seed", "reconstruct_images", *source_keys(w), tokenizer="{tokenizer}", source="{source}"
        )(w),
    message:
        "reconstruct_images: {wildcards.tokenizer} decodes its own tokens ({wildcards.source})"
    shell:
        stage_command("reconstruct_images", ["weights", "tokens", "code"], ["images"])


rule reconstruct_images_restored:
    input:
        weights=f"{RESULTS}/train_tokenizer/{{tokenizer}}.safetensors",
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/{{task}}.parquet",
        predictions=f"{RESULTS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.parquet",
        code=code_of("reconstruct_images"),
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
        config=slice_of(
            "seed", "reconstruct_images", "evaluate_llm.{task}", tokenizer="{tokenizer}", source="{task}.{predictor}"
        ),
    message:
        "reconstruct_images: {wildcards.tokenizer} decodes what {wildcards.predictor} restored ({wildcards.task})"
    shell:
        stage_command("reconstruct_images", ["weights", "tokens", "predictions", "code"], ["images"])


rule reconstruct_images_pixels:
    input:
        manifest=source_manifest,
        train_manifest=training_manifest,
        code=code_of("reconstruct_images"),
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
        config=lambda w: slice_of(
            "seed",
            "reconstruct_images",
            *[f"train_tokenizer.network.{key}" for key in ("image_size", "resize_via", "channel_multipliers")],
            *pixel_keys(w),
            tokenizer="pixels",
            source="{source}",
        )(w),
    message:
        "reconstruct_images: {wildcards.source}, which no tokenizer made"
    shell:
        stage_command("reconstruct_images", ["manifest", "train_manifest", "code"], ["images"])
