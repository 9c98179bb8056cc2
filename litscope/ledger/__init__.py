"""Ids, numbers and files: what a run knows of every sample. Knows no Lightning and no HTTP.

    schema           what is recorded for a sample at one visit, and how Parquet stores it
    custom           a person's own signals, in parts of their own
    signal_buffer    signals from logits, on the device until they are written; the one file here that imports torch
    parts            the files of signals/: what their names and footers say
    writer           rows to parts, by a thread of its own
    reader           the valid rows of a run, also while it goes on
    compaction       many small parts become few
    upkeep           scores and parts, while a run goes on
    visits           which rows of an epoch count for the scores
    scoring/         scores of every sample, from its visits
    journal/         what people asked of a run, and what became of it
    database         how DuckDB is opened
    tables           metrics, decisions and the journal as Arrow tables
    query            a person's query, within limits
    views            read-only SQL over a run
    queries          the questions that people ask about a run
    lookup           one sample, by key or id
    history          the visits of one sample
    neighbours       which samples a network finds most alike
    uncertainties    how sure a network was of samples that somebody measured
    suspects         the queue of suspected label errors
    compare          two runs side by side
    encode           Arrow tables as CSV and JSON text

Who may come in: `live`, `curation`, `training`, `experiments`, `watch` and the commands. This room imports the ground
floor only.
"""
