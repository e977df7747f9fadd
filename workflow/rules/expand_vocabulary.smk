"""Subwords, bigrams and trigrams of the language model."""


rule expand_vocabulary:
    input:
        assets=assets_of(f"llms.{CONFIG.expand_vocabulary.llm}"),
    output:
        vocabulary=f"{RESULTS}/expand_vocabulary/vocabulary.parquet",
    log:
        f"{LOGS}/expand_vocabulary/vocabulary.log",
    benchmark:
        f"{LOGS}/expand_vocabulary/vocabulary.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: SITE.cores
    params:
        **params_of("expand_vocabulary", slice_of("expand_vocabulary", f"llms.{CONFIG.expand_vocabulary.llm}")),
    message:
        f"expand_vocabulary: words of {CONFIG.expand_vocabulary.llm}"
    shell:
        stage_command("expand_vocabulary", [], ["vocabulary"])
