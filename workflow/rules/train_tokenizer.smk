"""Weights of each tokenizer variant, trained or imported; a training's checkpoints live in work/, which stays.

On a cluster a training's rule runs where Snakemake runs and only waits: v2l.cluster.launch submits it, or finds it again.
"""

TRAINED = trained_names(CONFIG)
# The network alone: how others are trained is none of an import's business.
IMPORT_KEYS = ("train_tokenizer.network", "train_tokenizer.global_tokens", "tokenizers.{tokenizer}")
IMPORT_SLICE = training_slice_of(*IMPORT_KEYS, tokenizer="{tokenizer}")


localrules:
    train_tokenizer,


rule train_tokenizer:
    input:
        assets=assets_of("train_tokenizer", f"datasets.{CONFIG.train_tokenizer.dataset}"),
        manifest=f"{RESULTS}/index_images/{CONFIG.train_tokenizer.dataset}.parquet",
        features=f"{RESULTS}/embed_images/{CONFIG.train_tokenizer.dataset}.safetensors",
        codebook=rules.filter_vocabulary.output.codebook,
        vocabulary=rules.expand_vocabulary.output.vocabulary,
        start_from=lambda w: required_files.own_files(CONFIG, w.tokenizer),
        decoded=lambda w: required_files.decoded_files(CONFIG, w.tokenizer),
    output:
        weights=f"{RESULTS}/train_tokenizer/{{tokenizer}}.safetensors",
        words=f"{RESULTS}/train_tokenizer/{{tokenizer}}.words.parquet",
        metrics=f"{RESULTS}/train_tokenizer/{{tokenizer}}.metrics.jsonl",
    log:
        f"{LOGS}/train_tokenizer/{{tokenizer}}.log",
    benchmark:
        f"{LOGS}/train_tokenizer/{{tokenizer}}.benchmark.tsv"
    wildcard_constraints:
        tokenizer=one_of(TRAINED),
    conda:
        ENVIRONMENT
    threads: SITE.cores
    resources:
        **SITE.training(),
    params:
        **params_of(
            "train_tokenizer",
            training_slice_of(
                "seed",
                "train_tokenizer",
                "tokenizers.{tokenizer}",
                f"datasets.{CONFIG.train_tokenizer.dataset}",
                tokenizer="{tokenizer}",
                work=f"work/{CONFIG.experiment}/train_tokenizer/{{tokenizer}}",
                logs=f"{LOGS}/train_tokenizer/{{tokenizer}}",
            ),
            required_files.trained_files(CONFIG),
            follows_code=False,  # no edit costs a retraining; after one that matters, use `-R train_tokenizer`
        ),
    message:
        "train_tokenizer: {wildcards.tokenizer}"
    shell:
        launched(
            stage_command(
                "train_tokenizer",
                ["manifest", "features", "codebook", "vocabulary", "start_from", "decoded"],
                ["weights", "words", "metrics"],
                machine=["tracking"],
            ),
            Request.model_fields,
        )


rule train_tokenizer_import:
    input:
        # No images and no features: published weights must not wait until a whole training set is embedded.
        assets=lambda w: assets_of(f"tokenizers.{w.tokenizer}"),
        files=lambda w: required_files.own_files(CONFIG, w.tokenizer),
        codebook=import_codebook,
        vocabulary=rules.expand_vocabulary.output.vocabulary,
        embedding=import_embedding,
    output:
        weights=f"{RESULTS}/train_tokenizer/{{tokenizer}}.safetensors",
        words=f"{RESULTS}/train_tokenizer/{{tokenizer}}.words.parquet",
        metrics=f"{RESULTS}/train_tokenizer/{{tokenizer}}.metrics.jsonl",
    log:
        f"{LOGS}/train_tokenizer/{{tokenizer}}.log",
    benchmark:
        f"{LOGS}/train_tokenizer/{{tokenizer}}.benchmark.tsv"
    wildcard_constraints:
        tokenizer=one_of([name for name in CONFIG.tokenizers if name not in TRAINED]),
    conda:
        ENVIRONMENT
    params:
        **params_of("train_tokenizer", IMPORT_SLICE, required_files.trained_files(CONFIG)),
    message:
        "train_tokenizer: importing {wildcards.tokenizer}"
    shell:
        stage_command("train_tokenizer", ["codebook", "embedding", "vocabulary"], ["weights", "words", "metrics"])
