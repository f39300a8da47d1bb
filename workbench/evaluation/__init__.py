"""Evaluating zero-shot segmentation: data sets, protocols, methods, and the tables of the paper.

:func:`workbench.evaluate` measures methods on many images under one :class:`~workbench.evaluation.protocols.Protocol`;
everything that decides a number is in the protocol, which is hashed, stored and printed. Nothing is ever downloaded.

A method of one's own is an object with a name, settings, ``prepare`` and ``maps``, and is measured beside the others::

    import numpy as np
    import workbench as wb
    from workbench.evaluation.methods import labelled

    class Dark:
        name = "dark"
        settings = {"version": 1}  # everything that decides the maps: part of what is hashed

        def prepare(self, setting):
            pass

        def maps(self, examples, concepts):
            for example, words in zip(examples, concepts):
                dark = 1 - example.image.mean(-1) / 255
                yield labelled(np.stack([dark if word in example.targets else 1 - dark for word in words]), words)

    print(wb.evaluate("scenes-single", [Dark(), "random"], limit=10))
"""
