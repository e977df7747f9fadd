"""Global and local token ids of each sample's images."""


rule extract_tokens:
    input:
        assets=lambda w: assets_of(f"encoders.{CONFIG.encoder}", f"datasets.{sample_dataset(w)}"),
        manifest=lambda w: f"{RESULTS}/index_images/{sample_dataset(w)}.parquet",
        features=lambda w: f"{RESULTS}/embed_images/{sample_dataset(w)}.safetensors",
        weights=f"{RESULTS}/train_tokenizer/{{tokenizer}}.safetensors",
        words=f"{RESULTS}/train_tokenizer/{{tokenizer}}.words.parquet",
    output:
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/{{sample}}.parquet",
    log:
        f"{LOGS}/extract_tokens/{{tokenizer}}/{{sample}}.log",
    benchmark:
        f"{LOGS}/extract_tokens/{{tokenizer}}/{{sample}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: SITE.cores
    resources:
        **SHARDS,
    params:
        **params_of(
            "extract_tokens",
            lambda w: slice_of(
                "seed",
                f"datasets.{sample_dataset(w)}",
                "samples.{sample}",
                *extraction_keys(w),
                tokenizer="{tokenizer}",
                sample="{sample}",
            )(w),
        ),
    message:
        "extract_tokens: {wildcards.tokenizer} on sample {wildcards.sample}"
    shell:
        stage_command("extract_tokens", ["manifest", "features", "weights", "words"], ["tokens"], machine=SHARDS)
