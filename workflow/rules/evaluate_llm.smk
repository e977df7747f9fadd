"""Every prompt, raw output and answer of each language model, and of the predictors that use none."""


rule evaluate_llm:
    input:
        assets=lambda w: assets_of(*predictor_keys(w)),
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/{{task}}.parquet",
        vocabulary=rules.expand_vocabulary.output.vocabulary,
        words=f"{RESULTS}/train_tokenizer/{{tokenizer}}.words.parquet",
        manifest=lambda w: f"{RESULTS}/index_images/{sample_dataset(w)}.parquet",
        features=predictor_features,
        episodes=task_files,
        adapter=predictor_adapter,
    output:
        predictions=f"{RESULTS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.parquet",
    log:
        f"{LOGS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.log",
    benchmark:
        f"{LOGS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.benchmark.tsv"
    wildcard_constraints:
        task="classification|restoration|masked|captioning|vqa",
    conda:
        ENVIRONMENT
    threads: lambda w: SITE.cores(w) if predictor_keys(w) else 1
    resources:
        **SITE.predictor(),
        **SHARDS,
    params:
        **params_of(
            "evaluate_llm",
            lambda w: slice_of(
                "seed",
                "evaluate_llm.{task}",
                "samples.{task}",
                *predictor_keys(w),
                tokenizer="{tokenizer}",
                predictor=Source.of_run(w.task, w.predictor).predictor,
                protocol=Source.of_run(w.task, w.predictor).protocol,
                task="{task}",
                work=f"work/{CONFIG.experiment}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}",
            )(w),
        ),
    message:
        "evaluate_llm: {wildcards.task} with {wildcards.tokenizer} tokens by {wildcards.predictor}"
        " ({resources.gpu} GPUs, {resources.mem_mb} MB)"
    shell:
        stage_command(
            "evaluate_llm",
            ["tokens", "vocabulary", "words", "manifest", "features", "episodes", "adapter"],
            ["predictions"],
            machine=[*SHARDS, "device_map"],
        )
