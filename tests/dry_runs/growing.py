"""Small programs that keep more after every step, and programs that do not."""

HEAD = """
import collections, copy, gc, numpy, random, torch
from torch import nn
random.seed(0)
net = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 16)).cuda()
adam = torch.optim.Adam(net.parameters())
def batch(rows=32):
    return torch.randn(rows, 256).cuda()
def step(out, **options):
    loss = out.square().mean()
    adam.zero_grad()
    loss.backward(**options)
    adam.step()
    return loss
"""


def by_title(text: str) -> dict[str, str]:
    """Return programs by their titles, which are the comments that begin them."""
    parts = (part.partition("\n") for part in text.strip().split("\n\n"))
    return {title.removeprefix("# "): program for title, _, program in parts}


GROWING = by_title("""
# a new optimizer in each epoch, and a list of losses: losses holds
losses = []
for epoch in range(5):
    adam = torch.optim.Adam(net.parameters())
    for _ in range(4):
        losses.append(step(net(batch())))

# a list of losses: losses holds 15 tensors of the GPU, 8 more than 8 steps before, with the graphs
losses = []
for _ in range(20):
    losses.append(step(net(batch())))

# a sum of losses: the graph of total
total = 0
for _ in range(20):
    total = total + step(net(batch()), retain_graph=True)

# outputs of lengths that vary: self.outputs holds
class Trainer:
    def __init__(self):
        self.outputs = []
    def run(self):
        for _ in range(20):
            out = net(batch(random.randint(1, 64)))
            step(out)
            self.outputs.append(out.detach())
Trainer().run()

# a hook that keeps: kept holds
kept = []
net[1].register_forward_hook(lambda module, given, out: kept.append(out))
for _ in range(20):
    step(net(batch()))

# a hook in each step: modules have 16 hooks, 8 more than 8 steps before
def watch(x):
    def hook(module, given, out):
        assert len(out) == len(x)
    net.register_forward_hook(hook)
for _ in range(20):
    x = batch()
    watch(x)
    step(net(x))

# a cache by shape: by a key such as a shape
masks = {}
def main():
    for length in range(40, 20, -1):
        if length not in masks:
            masks[length] = torch.ones(length, length, device="cuda").tril()
        step(masks[length] @ net(batch(length)))
main()

# a state that is carried: and of state has
cell, head = nn.GRUCell(256, 256).cuda(), nn.Linear(256, 1).cuda()
adam = torch.optim.Adam(head.parameters())
state = torch.zeros(8, 256, device="cuda")
for _ in range(20):
    state = cell(batch(8), state)
    step(head(state), retain_graph=True)

# a cache of keys and values: replaces its block by a larger one
cache = {"keys": None, "values": None}
for _ in range(20):
    new = net(batch(4))
    step(new)
    for name, held in cache.items():
        cache[name] = new.detach() if held is None else torch.cat([held, new.detach()], dim=0)

# scores of each evaluation: scores holds
scores = []
for number in range(1, 25):
    step(net(batch()))
    if number % 5 == 0:
        net.eval()
        with torch.no_grad():
            scores += [net(batch(8)) for _ in range(3)]
        net.train()

# an attribute of the model: log.rows holds
class Log:
    rows = None
    def __init__(self):
        self.rows = collections.defaultdict(list)
    def add(self, **values):
        for name, value in values.items():
            self.rows[name].append(value)
log = Log()
for _ in range(20):
    loss = step(net(batch()))
    log.add(loss=loss.detach(), norm=net[0].weight.grad.norm())

# a leak that begins late: late holds 9 tensors of the GPU, 9 more than 14 steps before
late = []
for number in range(30):
    step(net(batch()))
    if number > 20:
        late.append(torch.empty(1 << 20, device="cuda"))

# layers that are added: layers holds 6 tensors of the GPU, 4 more than 8 steps before
layers = []
for number in range(20):
    step(net(batch()))
    if number % 4 == 3:
        layers.append(nn.Linear(256, 256).cuda())

# a leak among blocks that live for random times: keep holds
live, keep = [], []
def rows():
    return torch.empty(1 << 18, device="cuda")
for number in range(30):
    step(net(batch()))
    live += [(number + random.randint(1, 6), rows()) for _ in range(5)]
    live = [one for one in live if one[0] > number]
    keep.append(live[-1][1])

# cycles that nobody collects: objects in cycles hold 38 KiB, which gc.collect() frees
gc.disable()
class Result:
    def __init__(self, out):
        self.out, self.me = out, self
for _ in range(20):
    out = net(batch())
    step(out)
    Result(out.detach())
""")
"""By name and a part of the cause that is named."""

LEVEL = by_title("""
# a list of numbers
losses = []
for _ in range(20):
    losses.append(step(net(batch())).item())

# a window
window = collections.deque(maxlen=6)
for _ in range(20):
    window.append(step(net(batch())))

# an average that begins late
for number in range(20):
    step(net(batch()))
    if number == 6:
        average = copy.deepcopy(net)
    if number > 6:
        for mine, its in zip(average.parameters(), net.parameters()):
            mine.data.lerp_(its.data, 0.1)

# evaluation
for number in range(1, 21):
    step(net(batch()))
    if number % 4 == 0:
        net.eval()
        with torch.no_grad():
            right = sum(net(batch(8)).sum() for _ in range(3))
        net.train()

# the best so far
best = None
for number in range(20):
    step(net(batch()))
    if number in (1, 2, 3, 5, 8, 13):
        best = {name: value.clone() for name, value in net.state_dict().items()}

# two optimizers
other = nn.Linear(16, 1).cuda()
sgd = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
for _ in range(10):
    made = net(batch())
    score = other(made.detach())
    sgd.zero_grad()
    score.mean().backward()
    sgd.step()
    step(-other(made))

# four micro-batches
for number in range(80):
    (net(batch(8)).square().mean() / 4).backward()
    if number % 4 == 3:
        adam.step()
        adam.zero_grad()

# a cache that fills
masks = {}
for _ in range(24):
    length = random.choice((8, 16, 24, 32))
    if length not in masks:
        masks[length] = torch.ones(length, length, device="cuda").tril()
    step(masks[length] @ net(batch(length)))

# batches of lengths that vary, fetched ahead
ahead = collections.deque(batch(random.randint(8, 64)) for _ in range(3))
for _ in range(20):
    ahead.append(batch(random.randint(8, 64)))
    step(net(ahead.popleft()))

# scores of an epoch
for epoch in range(5):
    scores = []
    for _ in range(5):
        out = net(batch())
        step(out)
        scores.append(out.detach())
    torch.cat(scores).mean().item()
""")

NOT_KNOWN = by_title("""
# only where a new optimizer begins
trained = []
for fold in range(6):
    net = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 16)).cuda()
    adam = torch.optim.Adam(net.parameters())
    trained.append((net, adam))
    for _ in range(8):
        step(net(batch()))

# as much is freed elsewhere
others, kept = [torch.empty(1 << 20, device="cuda") for _ in range(40)], []
for _ in range(40):
    step(net(batch()))
    others.pop()
    kept.append(torch.empty(1 << 20, device="cuda"))

# makes ever larger blocks, and so does the rest of the step
for number in range(30):
    x = batch(8 + 64 * number)
    step(net(x))

# what rose over 30 steps was freed
kept = []
for number in range(30):
    step(net(batch()))
    if number == 28:
        kept.clear()
    kept.append(torch.empty(1 << 20, device="cuda"))

# more was kept now and then
cache = {}
for number in range(40):
    step(net(batch()))
    cache.setdefault(number % 37, torch.empty(1 << 20, device="cuda"))

# and so does the rest of the step
window = collections.deque(maxlen=5)
for number in range(30):
    x = batch(16 + 8 * number)
    window.append(x)
    step(net(x))
""")
"""By a part of the reason: programs that may keep more or not."""

GROWING_ON_HOST = by_title("""
# 400_000: rows holds
rows = []
for _ in range(24):
    step(net(batch()))
    rows.append(numpy.ones(50_000))

# 4 * (257 * 256 + 257 * 16): trainer.best holds
class Trainer:
    best = []
trainer = Trainer()
trainer.best = []
for _ in range(24):
    step(net(batch()))
    trainer.best.append({name: value.cpu() for name, value in net.state_dict().items()})

# 4_000 * (64 + 8): texts holds
texts = []
for number in range(24):
    step(net(batch()))
    texts += [f"{number} {other}" for other in range(4_000)]
""")
"""By the bytes that a step keeps and a part of the cause that is named."""

LEVEL_ON_HOST = by_title("""
# a list of numbers, and workers
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 24 * 32
    def __getitem__(self, index):
        return torch.ones(256)
losses = []
for rows in torch.utils.data.DataLoader(Rows(), batch_size=32, num_workers=1, pin_memory=True):
    losses.append(step(net(rows.cuda())).item())

# a window of arrays
window = collections.deque(maxlen=4)
for _ in range(24):
    step(net(batch()))
    window.append(numpy.ones(50_000))
""")

LONGER_ON_HOST = by_title("""
# rows held larger things, not more
for number in range(40):
    rows = torch.ones(800 * number + 32, 256)
    step(net(rows.cuda()))

# each step allocates more on the GPU
for number in range(40):
    rows = [torch.ones(256) for _ in range(32 + 200 * number)]
    step(net(torch.stack(rows).cuda()))
""")
"""Batches that get longer, by a part of the reason."""
