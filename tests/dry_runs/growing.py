"""Small programs that keep more after every step, and programs that do not."""

HEAD = """
import collections, copy, gc, random, torch
from torch import nn
random.seed(0)
net = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 16)).cuda()
adam = torch.optim.Adam(net.parameters())
def batch(rows=32):
    return torch.randn(rows, 256).cuda()
def step(loss, **options):
    adam.zero_grad()
    loss.backward(**options)
    adam.step()
"""

GROWING: dict[str, tuple[str, str]] = {
    "a list of losses": (
        "losses holds 15 tensors of the GPU, 8 more than 8 steps before, with the graphs",
        """
losses = []
for _ in range(20):
    loss = net(batch()).square().mean()
    step(loss)
    losses.append(loss)
""",
    ),
    "a sum of losses": (
        "the graph of total",
        """
total = 0
for _ in range(20):
    loss = net(batch()).square().mean()
    step(loss, retain_graph=True)
    total = total + loss
""",
    ),
    "outputs of lengths that vary": (
        "self.outputs holds",
        """
class Trainer:
    def __init__(self):
        self.outputs = []
    def run(self):
        for _ in range(20):
            out = net(batch(random.randint(1, 64)))
            step(out.square().mean())
            self.outputs.append(out.detach())
Trainer().run()
""",
    ),
    "torch.cat": (
        "replaces its block by a larger one",
        """
seen = torch.empty(0, 16, device="cuda")
for _ in range(20):
    out = net(batch())
    step(out.square().mean())
    seen = torch.cat([seen, out.detach()])
""",
    ),
    "a hook that keeps": (
        "kept holds",
        """
kept = []
net[1].register_forward_hook(lambda module, given, out: kept.append(out))
for _ in range(20):
    step(net(batch()).square().mean())
""",
    ),
    "a hook in each step": (
        "modules have 16 hooks, 8 more than 8 steps before",
        """
def watch(x):
    def hook(module, given, out):
        assert len(out) == len(x)
    net.register_forward_hook(hook)
for _ in range(20):
    x = batch()
    watch(x)
    step(net(x).square().mean())
""",
    ),
    "a cache by shape": (
        "by a key such as a shape",
        """
masks = {}
def main():
    for length in range(40, 20, -1):
        if length not in masks:
            masks[length] = torch.ones(length, length, device="cuda").tril()
        out = net(batch(length))
        step((masks[length] @ out).square().mean())
main()
""",
    ),
    "a state that is carried": (
        "and of state has",
        """
cell, head = nn.GRUCell(256, 256).cuda(), nn.Linear(256, 1).cuda()
adam = torch.optim.Adam(head.parameters())
state = torch.zeros(8, 256, device="cuda")
for _ in range(20):
    state = cell(batch(8), state)
    step(head(state).mean(), retain_graph=True)
""",
    ),
    "a cache of keys and values": (
        "replaces its block by a larger one",
        """
cache = {"keys": None, "values": None}
for _ in range(20):
    new = net(batch(4))
    step(new.square().mean())
    for name, held in cache.items():
        cache[name] = new.detach() if held is None else torch.cat([held, new.detach()], dim=0)
""",
    ),
    "scores of each evaluation": (
        "scores holds",
        """
scores = []
for number in range(1, 25):
    step(net(batch()).square().mean())
    if number % 5 == 0:
        net.eval()
        with torch.no_grad():
            scores += [net(batch(8)) for _ in range(3)]
        net.train()
""",
    ),
    "an attribute of the model": (
        "log.rows holds",
        """
class Log:
    rows = None
    def __init__(self):
        self.rows = collections.defaultdict(list)
    def add(self, **values):
        for name, value in values.items():
            self.rows[name].append(value)
log = Log()
for _ in range(20):
    loss = net(batch()).square().mean()
    step(loss)
    log.add(loss=loss.detach(), norm=net[0].weight.grad.norm())
""",
    ),
    "cycles that nobody collects": (
        "a cycle of objects, perhaps",
        """
gc.disable()
class Result:
    def __init__(self, out):
        self.out, self.me = out, self
for _ in range(20):
    out = net(batch())
    step(out.square().mean())
    Result(out.detach())
""",
    ),
}
"""By name: a part of the cause that is named, and the program."""

LEVEL: dict[str, str] = {
    "a training loop": """
for _ in range(20):
    step(net(batch()).square().mean())
""",
    "a list of numbers": """
losses = []
for _ in range(20):
    loss = net(batch()).square().mean()
    step(loss)
    losses.append(loss.item())
""",
    "lengths that vary": """
for _ in range(20):
    out = net(batch(random.randint(1, 64)))
    loss = out.square().mean()
    step(loss)
""",
    "a window": """
window = collections.deque(maxlen=6)
for _ in range(20):
    loss = net(batch()).square().mean()
    step(loss)
    window.append(loss)
""",
    "an average that begins late": """
for number in range(20):
    step(net(batch()).square().mean())
    if number == 6:
        average = copy.deepcopy(net)
    if number > 6:
        for mine, its in zip(average.parameters(), net.parameters()):
            mine.data.lerp_(its.data, 0.1)
""",
    "evaluation": """
for number in range(1, 21):
    step(net(batch()).square().mean())
    if number % 4 == 0:
        net.eval()
        with torch.no_grad():
            right = sum(net(batch(8)).sum() for _ in range(3))
        net.train()
""",
    "the best so far": """
best = None
for number in range(20):
    step(net(batch()).square().mean())
    if number in (1, 2, 3, 5, 8, 13):
        best = {name: value.clone() for name, value in net.state_dict().items()}
""",
    "two optimizers": """
other = nn.Linear(16, 1).cuda()
sgd = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
for _ in range(10):
    made = net(batch())
    score = other(made.detach())
    sgd.zero_grad()
    score.mean().backward()
    sgd.step()
    step(-other(made).mean())
""",
    "four micro-batches": """
for number in range(80):
    (net(batch(8)).square().mean() / 4).backward()
    if number % 4 == 3:
        adam.step()
        adam.zero_grad()
""",
    "a cache that fills": """
masks = {}
for _ in range(24):
    length = random.choice((8, 16, 24, 32))
    if length not in masks:
        masks[length] = torch.ones(length, length, device="cuda").tril()
    step((masks[length] @ net(batch(length))).square().mean())
""",
    "batches that are fetched ahead": """
ahead = collections.deque(batch(random.randint(8, 64)) for _ in range(3))
for _ in range(20):
    ahead.append(batch(random.randint(8, 64)))
    step(net(ahead.popleft()).square().mean())
""",
    "scores of an epoch": """
for epoch in range(5):
    scores = []
    for _ in range(5):
        out = net(batch())
        step(out.square().mean())
        scores.append(out.detach())
    torch.cat(scores).mean().item()
""",
}
