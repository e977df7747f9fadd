"""One text embedding per vocabulary entry."""


rule embed_vocabulary:
    message:
        f"embed_vocabulary: text features of {CONFIG.encoder}"
    input:
        assets=assets_of(f"encoders.{CONFIG.encoder}"),
        vocabulary=rules.expand_vocabulary.output.vocabulary,
        code=stage_code("embed_vocabulary"),
    output:
        embedding=f"{RESULTS}/embed_vocabulary/embedding.safetensors",
    params:
        config=slice_of("encoder", f"encoders.{CONFIG.encoder}", "embed_vocabulary"),
    log:
        f"{LOGS}/embed_vocabulary/embedding.log",
    benchmark:
        f"{LOGS}/embed_vocabulary/embedding.benchmark.tsv"
    threads: 8
    shell:
        stage_command("embed_vocabulary", ["vocabulary"], ["embedding"])
