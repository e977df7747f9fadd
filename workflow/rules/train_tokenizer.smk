"""Weights of each tokenizer variant; checkpoints live in work/, which Snakemake never deletes."""


rule train_tokenizer:
    input:
        assets=assets_of("train_tokenizer", f"datasets.{CONFIG.train_tokenizer.dataset}"),
        manifest=f"{RESULTS}/index_images/{CONFIG.train_tokenizer.dataset}.parquet",
        features=f"{RESULTS}/embed_images/{CONFIG.train_tokenizer.dataset}.safetensors",
        codebook=rules.filter_vocabulary.output.codebook,
        vocabulary=rules.expand_vocabulary.output.vocabulary,
        # A comment in the code must not cost a retraining: after a change that matters, use `-R train_tokenizer`.
        code=ancient(stage_code("train_tokenizer")),
    output:
        weights=f"{RESULTS}/train_tokenizer/{{tokenizer}}.safetensors",
        words=f"{RESULTS}/train_tokenizer/{{tokenizer}}.words.parquet",
        metrics=f"{RESULTS}/train_tokenizer/{{tokenizer}}.metrics.jsonl",
    log:
        f"{LOGS}/train_tokenizer/{{tokenizer}}.log",
    benchmark:
        f"{LOGS}/train_tokenizer/{{tokenizer}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    params:
        config=slice_of(
            "seed",
            "train_tokenizer",
            "tokenizers.{tokenizer}",
            f"datasets.{CONFIG.train_tokenizer.dataset}",
            tokenizer="{tokenizer}",
            work=f"work/{CONFIG.experiment}/train_tokenizer/{{tokenizer}}",
            logs=f"{LOGS}/train_tokenizer/{{tokenizer}}",
        ),
    message:
        "train_tokenizer: {wildcards.tokenizer}"
    shell:
        stage_command(
            "train_tokenizer", ["manifest", "features", "codebook", "vocabulary"], ["weights", "words", "metrics"]
        )
