"""Addresses of A1111's API, where its programs look for them."""

from django.urls import path

from generation.compat.a1111 import extras, job, lists, png_info, views

urlpatterns = [
    path("sdapi/v1/txt2img", views.Txt2ImgView.as_view()),
    path("sdapi/v1/img2img", views.Img2ImgView.as_view()),
    path("sdapi/v1/extra-single-image", extras.ExtraSingleImageView.as_view()),
    path("sdapi/v1/extra-batch-images", extras.ExtraBatchImagesView.as_view()),
    path("sdapi/v1/png-info", png_info.PngInfoView.as_view()),
    path("sdapi/v1/progress", job.ProgressView.as_view()),
    path("sdapi/v1/interrupt", job.InterruptView.as_view()),
    path("sdapi/v1/skip", job.InterruptView.as_view()),
    path("sdapi/v1/options", lists.OptionsView.as_view()),
    path("sdapi/v1/sd-models", lists.SdModelsView.as_view()),
    path("sdapi/v1/samplers", lists.SamplersView.as_view()),
    path("sdapi/v1/loras", lists.SdLorasView.as_view()),
    path("sdapi/v1/prompt-styles", lists.PromptStylesView.as_view()),
    path("controlnet/model_list", lists.ControlModelsView.as_view()),
    path("controlnet/control_types", lists.ControlTypesView.as_view()),
    *(path(name, lists.RefreshView.as_view()) for name in lists.REFRESHED),
    *(path(name, lists.FixedView.as_view(name=name)) for name in lists.FIXED_PATHS),
]
