"""Addresses of the compatible interfaces. They stand at the root, where their programs look for them."""

from django.urls import path

from generation.compat import children, openai_images, sdapi

urlpatterns = [
    path("generate", children.ChildrenGenerateView.as_view()),
    path("status/<str:public_id>", children.ChildrenStatusView.as_view()),
    path("result/<str:public_id>.png", children.ChildrenResultView.as_view()),
    path("health", children.health),
    path("v1/images/generations", openai_images.GenerationsView.as_view()),
    path("v1/images/edits", openai_images.EditsView.as_view()),
    path("v1/models", openai_images.OpenAiModelsView.as_view()),
    path("v1/models/<str:name>", openai_images.OpenAiModelView.as_view()),
    path("sdapi/v1/txt2img", sdapi.Txt2ImgView.as_view()),
    path("sdapi/v1/img2img", sdapi.Img2ImgView.as_view()),
    path("sdapi/v1/progress", sdapi.ProgressView.as_view()),
    path("sdapi/v1/interrupt", sdapi.InterruptView.as_view()),
    path("sdapi/v1/skip", sdapi.InterruptView.as_view()),
    path("sdapi/v1/options", sdapi.OptionsView.as_view()),
    path("sdapi/v1/sd-models", sdapi.SdModelsView.as_view()),
    path("sdapi/v1/samplers", sdapi.SamplersView.as_view()),
    path("sdapi/v1/loras", sdapi.SdLorasView.as_view()),
    *(path(f"sdapi/v1/{name}", sdapi.FixedView.as_view(name=name)) for name in sdapi.FIXED_NAMES),
]
