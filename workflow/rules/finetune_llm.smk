"""LoRA adapter of a language model for masked image restoration; checkpoints live in work/."""


rule finetune_llm:
    input:
        assets=lambda w: assets_of(*predictor_keys(w)),
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/finetuning.parquet",
        vocabulary=rules.expand_vocabulary.output.vocabulary,
    output:
        adapter=f"{RESULTS}/finetune_llm/{{tokenizer}}/{{predictor}}/adapter_model.safetensors",
        adapter_config=f"{RESULTS}/finetune_llm/{{tokenizer}}/{{predictor}}/adapter_config.json",
        metrics=f"{RESULTS}/finetune_llm/{{tokenizer}}/{{predictor}}/metrics.jsonl",
    log:
        f"{LOGS}/finetune_llm/{{tokenizer}}/{{predictor}}.log",
    benchmark:
        f"{LOGS}/finetune_llm/{{tokenizer}}/{{predictor}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: SITE.cores
    params:
        **params_of(
            "finetune_llm",
            lambda w: slice_of(
                "seed",
                "finetune_llm",
                *predictor_keys(w),
                tokenizer="{tokenizer}",
                predictor="{predictor}",
                work=f"work/{CONFIG.experiment}/finetune_llm/{{tokenizer}}/{{predictor}}",
            )(w),
        ),
    message:
        "finetune_llm: {wildcards.predictor} on {wildcards.tokenizer} tokens, for masked restoration"
    shell:
        stage_command("finetune_llm", ["tokens", "vocabulary"], ["adapter", "adapter_config", "metrics"])
