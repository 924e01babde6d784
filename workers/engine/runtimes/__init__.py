"""Other programs than torch's eager mode that run the heavy modules of a model, chosen by `options["runtime"]`.

A graph (graph_forms.py, export.py) holds the computation of a module without its weights, so it stays valid when they
change, and one serves every model of the same configuration. It lies beside the model (graph_folder.py). At load it is
bound to the weights that torch has read, a merged adapter included (onnx_session.py), and takes over the calls of the
real module (hosting.py): the engine, its batches and the pipelines see no difference.
"""
