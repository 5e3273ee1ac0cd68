"""Healthy training code of many kinds: not one finding. A false alarm is a defect."""

from __future__ import annotations

import pytest

from tests.checking import findings

SCRIPTS = {
    "checkpoint, not reentrant": """
        from torch.utils.checkpoint import checkpoint
        a, b = nn.Linear(8, 8), nn.Linear(8, 1)
        x = torch.randn(4, 8)
        b(checkpoint(lambda t: a(t).tanh(), x, use_reentrant=False)).pow(2).mean().backward()
    """,
    "checkpoint, reentrant": """
        from torch.utils.checkpoint import checkpoint
        a, b = nn.Linear(8, 8), nn.Linear(8, 1)
        x = torch.randn(4, 8, requires_grad=True)
        b(checkpoint(lambda t: a(t).tanh(), x, use_reentrant=True)).pow(2).mean().backward()
    """,
    "autocast": """
        net = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1))
        opt = torch.optim.AdamW(net.parameters())
        for _ in range(3):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = nn.functional.mse_loss(net(torch.randn(4, 8)).float(), torch.randn(4, 1))
            opt.zero_grad()
            loss.backward()
            opt.step()
    """,
    "a gradient penalty": """
        d = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(), nn.Linear(8, 1))
        opt = torch.optim.Adam(d.parameters())
        for _ in range(2):
            x = torch.randn(4, 2, requires_grad=True)
            g, = torch.autograd.grad(d(x).sum(), x, create_graph=True)
            opt.zero_grad()
            (d(x).mean() + (g.norm(2, dim=1) - 1).pow(2).mean()).backward()
            opt.step()
    """,
    "an inner loop (MAML)": """
        w = torch.randn(3, requires_grad=True)
        opt = torch.optim.SGD([w], 0.1)
        for _ in range(2):
            x = torch.randn(5, 3)
            g, = torch.autograd.grad((x @ w).pow(2).mean(), w, create_graph=True)
            opt.zero_grad()
            (x @ (w - 0.1 * g)).pow(2).mean().backward()
            opt.step()
    """,
    "LBFGS with a closure": """
        net = nn.Linear(2, 1)
        x, y = torch.randn(8, 2), torch.randn(8, 1)
        opt = torch.optim.LBFGS(net.parameters(), max_iter=4)
        def closure():
            opt.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            return loss
        for _ in range(2):
            opt.step(closure)
    """,
    "a VAE": """
        enc, dec = nn.Linear(6, 4), nn.Linear(2, 6)
        opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()])
        for _ in range(2):
            x = torch.rand(5, 6)
            mu, logvar = enc(x).chunk(2, -1)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            rec = nn.functional.binary_cross_entropy_with_logits(dec(z), x, reduction="sum")
            loss = rec - 0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum()
            opt.zero_grad()
            loss.backward()
            opt.step()
    """,
    "policy gradient": """
        net = nn.Linear(3, 2)
        opt = torch.optim.Adam(net.parameters())
        for _ in range(2):
            dist = torch.distributions.Categorical(logits=net(torch.randn(6, 3)))
            action = dist.sample()
            advantage = torch.randn(6)
            loss = -(dist.log_prob(action) * advantage.detach()).mean() - 0.01 * dist.entropy().mean()
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            opt.step()
    """,
    "momentum encoder and stop-gradient": """
        import copy
        online = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
        target = copy.deepcopy(online)
        opt = torch.optim.SGD(online.parameters(), 0.1)
        for _ in range(2):
            x = torch.randn(8, 4)
            with torch.no_grad():
                y = target(x)
            loss = -nn.functional.cosine_similarity(online(x), y.detach(), dim=-1).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            with torch.no_grad():
                for p, q in zip(target.parameters(), online.parameters()):
                    p.mul_(0.99).add_(q, alpha=0.01)
    """,
    "vector quantisation": """
        enc, dec, book = nn.Linear(4, 2), nn.Linear(2, 4), nn.Embedding(8, 2)
        opt = torch.optim.Adam([*enc.parameters(), *dec.parameters(), *book.parameters()])
        for _ in range(2):
            x = torch.randn(6, 4)
            z = enc(x)
            q = book(torch.cdist(z, book.weight).argmin(1))
            loss = (dec(z + (q - z).detach()) - x).pow(2).mean()
            loss = loss + (q - z.detach()).pow(2).mean() + 0.25 * (z - q.detach()).pow(2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
    """,
    "tied weights, weight norm, dropout": """
        emb, out = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        out.weight = emb.weight
        mid = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        x = torch.randint(20, (4, 5))
        logits = out(nn.functional.dropout(mid(emb(x)), 0.1))
        nn.functional.cross_entropy(logits.flatten(0, 1), x.flatten()).backward()
    """,
    "causal attention written by hand": """
        qkv = nn.Linear(8, 24)
        x = torch.randn(2, 6, 8)
        q, k, v = qkv(x).chunk(3, -1)
        mask = torch.triu(torch.ones(6, 6), 1).bool()
        a = (q @ k.transpose(1, 2) / 8**0.5).masked_fill(mask, float("-inf")).softmax(-1)
        (a @ v).pow(2).mean().backward()
    """,
    "connectionist temporal classification": """
        net = nn.Linear(4, 6)
        logp = net(torch.randn(12, 2, 4)).log_softmax(-1)
        nn.functional.ctc_loss(logp, torch.randint(1, 6, (2, 4)), (12, 12), (4, 4)).backward()
    """,
    "a margin loss that is satisfied for some": """
        net = nn.Linear(3, 2)
        a, p, n = net(torch.randn(9, 3)), net(torch.randn(9, 3)), net(torch.randn(9, 3))
        nn.functional.triplet_margin_loss(a, p, n).backward()
    """,
    "backward through time, truncated": """
        lstm, head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 1)
        opt = torch.optim.Adam([*lstm.parameters(), *head.parameters()])
        state = None
        for _ in range(4):
            out, state = lstm(torch.randn(2, 7, 3), state)
            state = tuple(s.detach() for s in state)
            opt.zero_grad()
            head(out).pow(2).mean().backward()
            opt.step()
    """,
    "complex numbers and a Fourier transform": """
        w = torch.randn(16, requires_grad=True)
        torch.fft.rfft(w).abs().pow(2).sum().backward()
    """,
    "sparse embedding": """
        emb = nn.Embedding(30, 4, sparse=True)
        opt = torch.optim.SGD(emb.parameters(), 0.1)
        for _ in range(2):
            opt.zero_grad()
            emb(torch.randint(30, (8,))).pow(2).mean().backward()
            opt.step()
    """,
    "in-place activations as they are meant": """
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True))
        net(torch.randn(2, 1, 8, 8)).mean().backward()
    """,
    "accumulation with a scaled loss": """
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), 0.1)
        for i in range(8):
            (net(torch.randn(4, 4)).pow(2).mean() / 4).backward()
            if (i + 1) % 4 == 0:
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                opt.step()
                opt.zero_grad()
    """,
    "an error that the script catches": """
        x = torch.ones(2, requires_grad=True)
        try:
            (x * 2).backward()
        except RuntimeError:
            pass
        (x * 2).sum().backward()
    """,
    "a training loop with validation": """
        net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
        opt = torch.optim.Adam(net.parameters(), 1e-2)
        for epoch in range(3):
            net.train()
            x, y = torch.randn(32, 4), torch.randint(3, (32,))
            loss = nn.functional.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            net.eval()
            with torch.no_grad():
                logits = net(x)
                accuracy = (logits.argmax(1) == y).float().mean().item()
        total = sum(p.norm().item() for p in net.parameters())
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_healthy_script_has_no_finding(name, tmp_path):
    assert findings(SCRIPTS[name], tmp_path) == ()
