"""Verified weights and data, once, on a machine with a network."""


rule fetch_assets:
    input:
        expand("assets/{asset}/asset.json", asset=CONFIG.fetch_assets.assets),


rule fetch_assets_one:
    message:
        "fetch_assets: download and verify {wildcards.asset}"
    input:
        lock="config/assets.lock",
    output:
        record="assets/{asset}/asset.json",
    params:
        config=slice_of(asset="{asset}"),
    log:
        "logs/fetch_assets/{asset}.log",
    threads: 1
    shell:
        stage_command("fetch_assets", ["lock"], ["record"])
