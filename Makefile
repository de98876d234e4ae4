# Thalweg: every target does its own set-up; the second time is fast.
#   make demo  [ARGS="--seconds 20"]   the main job, live, on the embedded default
#   make test                          all tests but the slow ones, real Kafka included
#   make test-all                      the slow ones too (crashes, long runs)
#   make check                         formatting, lint, strict types, import contracts
#   make bench [ARGS="--quick"]        speed against confluent_kafka, Flink, Bytewax, Quix (see benchmarks/README.md)
#   make bench-takeover               kill -9 with a million keys: back in the same slot, taken over by another worker
#   make bench-kafka [ARGS="--quick"]  Kafka clients against confluent_kafka and Java's perf test
#   make bench-cep [ARGS="--quick"]    patterns, against Flink CEP's Java job on the same events
#   make bench-rules                   1,000 rules over 100,000 events, a state machine, a correlation
#   make bench-nexmark [ARGS="--events 500000"]  Nexmark q0 to q8 from Kafka, against Flink SQL
#   make bench-alerts [ARGS="--quick"] rules, lists of open alerts, time from an event to its request
#   make bench-state [ARGS="--quick"]  what state costs: per event, in checkpoints, at a restart
#   make bench-engine                  Nexmark against Flink SQL, state, kill -9 with a million keys: all of the engine's
PYTHON ?= python3
RUN := .venv/bin/python
ARGS ?=
WORKERS ?= 2
# Tests wait for brokers and for processes more than they compute: two files at a time, also on two cores.

.PHONY: help setup demo test test-all check format bench bench-kafka bench-cep bench-rules bench-nexmark bench-alerts bench-state bench-engine clean bench-takeover

help:
	@sed -n 's/^#   //p' Makefile

setup:
	@$(PYTHON) tools/setup.py dev

demo:
	@$(PYTHON) tools/setup.py
	@$(RUN) -m thalweg.demo $(ARGS)

test: setup
	@$(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(ARGS)

test-all: setup
	@$(RUN) -m pytest $(ARGS)

check: setup
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@.venv/bin/lint-imports

format: setup
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

bench: setup
	@$(RUN) benchmarks/run.py $(ARGS)

bench-cep: setup
	@$(RUN) -m benchmarks.cep $(ARGS)

bench-rules: setup
	@$(RUN) -m benchmarks.rules $(ARGS)

bench-nexmark: setup
	@$(RUN) -m benchmarks.nexmark.run $(ARGS)

bench-alerts: setup
	@$(RUN) -m benchmarks.alerts $(ARGS)

bench-state: setup
	@$(RUN) benchmarks/state.py $(ARGS)

bench-kafka: setup
	@$(RUN) benchmarks/kafka_clients.py $(ARGS)

bench-takeover: setup
	@$(RUN) benchmarks/takeover.py $(ARGS)

bench-engine: bench-nexmark bench-state bench-takeover

clean:
	rm -rf .venv .thalweg .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
