"""First steps in Python, cell by cell (VS Code, Jupytext and Spyder run `# %%` cells); about a minute on two cores.

Run it as a whole with `python examples/first_steps.py`: everything is written into `runs/first-steps`.
"""

# %% What there is
import archer

print("algorithms:", ", ".join(archer.algorithms()))
print("benchmarks:", ", ".join(archer.benchmarks()))

# %% One math answer, and one program, graded as a training run would grade them
print(archer.verify(r"\frac{1}{2}", r"Half of it: \boxed{0.5}"))
print(archer.judge("print(sum(map(int, input().split())))", [{"stdin": "3 4", "expected": "7"}], allow_unisolated=True))

# %% Train one algorithm for a few steps; called again, an unfinished run goes on where it stopped
short = ["steps=4", "rollout.prompts=8", "evaluate.samples=2", "data=[{name: lab-arithmetic}]"]
short += ["evaluate.benchmarks=[lab-arithmetic]"]
run = archer.train("lab", algorithm="archer", seed=0, out="runs/first-steps/archer", changes=short)
print(run.metrics[["reward", "length", "rollout_entropy", "clip"]])

# %% What it sampled, and what the final model answered: DataFrames
print(run.rollouts.groupby("step")["score"].mean())
print(run.results.groupby("benchmark")["passed"].mean())

# %% Two algorithms from one base model, with intervals and paired tests
standings = archer.compare("lab", ["grpo", "archer"], seeds=1, out="runs/first-steps/compare", changes=short)
scores = standings.to_pandas()
print(scores[scores["metric"].str.fullmatch(r"avg@\d+")][["row", "benchmark", "value", "low", "high"]])

# %% The base model as it is
print(archer.evaluate("lab", "lab-arithmetic", samples=2, out="runs/first-steps/base").to_pandas())
