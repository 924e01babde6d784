"""The forms of the logins with pages of their own (/accounts/login/, /admin/login/): name, password, and the code of
the second factor where the user has one.
"""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm as UnfoldForm
from unfold.widgets import BASE_INPUT_CLASSES

from generation.accounts import second_factor
from generation.admission.login import code_is_right


class CodeMixin(forms.Form):
    """Asks for the code beside the password: the same page for everybody, so that it does not say who has one."""

    code = forms.CharField(
        label="Code",
        required=False,
        max_length=20,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}),
        help_text="Only if you have switched on the second factor.",
    )

    def confirm_login_allowed(self, user: Any) -> None:
        """Called when the password was right. Raises ValidationError, TooManyRequests."""
        super().confirm_login_allowed(user)  # type: ignore[misc]  # of the form beside it
        if not second_factor.is_on(user):
            return
        code = self.data.get("code", "").strip()
        if not code:
            raise ValidationError("Enter the code of your authenticator app.", code="code_needed")
        if not code_is_right(self.request, user, code):  # type: ignore[attr-defined]
            raise ValidationError("This code is wrong or was used before.", code="wrong_code")


class LoginForm(CodeMixin, AuthenticationForm):
    """Of people who allow an application something (OAuth)."""


class AdminLoginForm(CodeMixin, UnfoldForm):
    """Of the admin."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].widget.attrs["class"] = " ".join(BASE_INPUT_CLASSES)
